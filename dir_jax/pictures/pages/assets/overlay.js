"use strict";
// How much the hands cover the photograph.
document.addEventListener("DOMContentLoaded", () => {
  for (const controls of document.querySelectorAll(".overlay-controls")) {
    const layers = controls.parentElement.querySelectorAll("[data-stage-picture]");
    const slider = Figures.make("input", { type: "range", min: 0, max: 100, value: 90 });
    const box = Figures.make("input", { type: "checkbox", checked: true });
    const apply = () => layers.forEach((layer) => {
      layer.style.opacity = box.checked ? slider.value / 100 : 0;
    });
    box.addEventListener("change", apply);
    slider.addEventListener("input", () => { box.checked = true; apply(); });
    controls.append(
      Figures.make("label", { className: "overlay-toggle" }, box, "hands over the photo"),
      Figures.make("label", {}, "opacity", slider),
    );
    apply();
  }
});
