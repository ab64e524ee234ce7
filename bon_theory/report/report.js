"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const number = (x) => (x === null ? "not computed" : String(Number(x.toPrecision(4))));

  function show() {
    const i = Number(find("n").value);
    const t = Number(find("temperature").value);
    const heat = data.temperature[t];
    const names = { n: `n = ${data.n[i]}`, temperature: heat === 0 ? "0, best-of-n" : String(heat) };
    for (const [id, text] of Object.entries(names)) {
      find(`${id}-value`).textContent = text;
      find(id).setAttribute("aria-valuetext", text);
    }
    const rows = data.tracks.map((track) => {
      const [mean, low, high] = ["mean", "low", "high"].map((end) => track[end][t][i]);
      const text = mean === null ? number(null) : `${number(mean)} (${number(low)} to ${number(high)})`;
      return [track.name, text];
    });
    if (heat === 0) {
      rows.push(["win rate against one answer", number(data.winRate[i])]);
      rows.push(["KL in nats", `${number(data.kl[i])}, ${data.klLabel}`]);
    } else {
      const n = data.n[i];
      rows.push(["KL in nats", `at most ${number(Math.log(n) - (n - 1) / n)}`]);
    }
    find("values").replaceChildren(...rows.flatMap(([name, text]) => {
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = text;
      return [term, value];
    }));
    for (const [key, places] of Object.entries(data.places)) {
      const cursor = find(key).querySelector(".cursor");
      cursor.setAttribute("x1", places[i]);
      cursor.setAttribute("x2", places[i]);
      cursor.style.visibility = heat === 0 ? "visible" : "hidden";
    }
  }

  find("try").hidden = false;
  for (const id of ["n", "temperature"]) find(id).addEventListener("input", show);
  show();
  const details = () => [...document.querySelectorAll("details")];
  window.addEventListener("beforeprint", () => details().forEach((d) => { d.open = true; }));
})();
