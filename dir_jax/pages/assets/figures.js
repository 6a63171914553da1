"use strict";
// Unpacks plotly.js from this file and draws every figure when it comes into view.
const Figures = (() => {
  const kinds = {};

  async function loadLibrary() {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser is too old for the figures (it lacks DecompressionStream)");
    }
    const packed = document.getElementById("library").textContent;
    const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  function array(base64, Type) {
    return new Type(bytes(base64).buffer);
  }

  // Consecutive thirds of an array: its x, y and z.
  function planes(values) {
    const count = values.length / 3;
    return [0, 1, 2].map((axis) => values.subarray(axis * count, (axis + 1) * count));
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  function make(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  function fail(figure, error) {
    figure.prepend(make("p", { className: "error", textContent: `No figure: ${error.message}` }));
  }

  async function start() {
    const figures = [...document.querySelectorAll("[data-figure]")];
    try {
      await loadLibrary();
    } catch (error) {
      figures.forEach((figure) => fail(figure, error));
      return;
    }
    const built = new Map();
    for (const figure of figures) {
      const data = JSON.parse(figure.querySelector("script").textContent);
      built.set(figure, kinds[figure.dataset.figure](figure, data));
    }
    // Browsers allow about sixteen WebGL canvases a page: only those in view are kept.
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const part = built.get(target);
        try {
          isIntersecting ? part.show() : part.hide();
        } catch (error) {
          fail(target, error);
        }
      }
    }, { rootMargin: "200px" });
    figures.forEach((figure) => observer.observe(figure));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      built.forEach((part) => { part.hide(); part.show(); });
    });
  }

  document.addEventListener("DOMContentLoaded", start);
  return { kinds, array, planes, colour, make };
})();
