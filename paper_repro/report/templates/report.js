"use strict";
(() => {
  // The filters themselves are style alone; here numbers set them, and what is shown is told.
  const choose = (slug) => {
    const choice = document.getElementById(`show-${slug}`);
    if (choice) choice.checked = true;
    tell();
  };
  const tell = () => {
    const claims = [...document.querySelectorAll(".claim")];
    const shown = claims.filter((claim) => claim.checkVisibility()).length;
    document.getElementById("shown").textContent = `${shown} of ${claims.length} statements shown`;
  };
  document.addEventListener("click", (event) => {
    const number = event.target.closest("a[data-show]");
    if (number) choose(number.dataset.show);
  });
  document.querySelector(".filters").addEventListener("change", tell);
  addEventListener("reveal", () => choose("all"));
})();
