"use strict";
(() => {
  // A target inside what is folded or filtered away is shown before it is jumped to.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || target.checkVisibility()) return;
    dispatchEvent(new CustomEvent("reveal", { detail: target }));
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  addEventListener("DOMContentLoaded", reveal);

  // A picture opens in full size over the page; without this script its link leads to the file.
  const dialog = document.getElementById("picture");
  document.addEventListener("click", (event) => {
    const image = event.target.closest("figure a")?.querySelector("img");
    if (!image) return;
    event.preventDefault();
    const large = dialog.querySelector("img");
    [large.src, large.alt, large.hidden] = [image.src, image.alt, false];
    dialog.showModal();
  });
})();
