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
    const [win, kl] = [data.winRate[t][i], data.kl[t][i]];
    rows.push(["win rate against one answer", win === null && kl !== null ? "no answer is left to be beaten" : number(win)]);
    rows.push(["KL in nats", kl === null ? number(null) : `${number(kl)}, ${data.klLabels[t]}`]);
    find("values").replaceChildren(...rows.flatMap(([name, text]) => {
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = text;
      return [term, value];
    }));
    for (const [key, places] of Object.entries(data.places)) {
      const cursor = find(key).querySelector(".cursor");
      const place = places.length > 1 ? places[t][i] : places[0][i];
      cursor.setAttribute("x1", place ?? 0);
      cursor.setAttribute("x2", place ?? 0);
      cursor.style.visibility = place === null || (heat !== 0 && places.length === 1) ? "hidden" : "visible";
    }
  }

  find("try").hidden = false;
  for (const id of ["n", "temperature"]) find(id).addEventListener("input", show);
  show();
  const details = () => [...document.querySelectorAll("details")];
  window.addEventListener("beforeprint", () => details().forEach((d) => { d.open = true; }));
})();
