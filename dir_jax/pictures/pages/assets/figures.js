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

  const HUES = ["#3f7fe0", "#e8833a", "#2fa36b", "#c0508f", "#8a6fdf", "#b59a1d", "#2ba3b5",
                "#d4534f", "#7d8794", "#1d3f8f", "#7a4a21"];

  function hue(number) {
    return HUES[number % HUES.length];
  }

  // A flat chart in the page's own colours; `draw(axis)` gives { traces, layout }, in which
  // `axis(text)` is an axis with that title.
  function chart(figure, draw) {
    const canvas = figure.querySelector(".canvas");
    let live = false;
    return {
      show() {
        if (live) return;
        live = true;
        const line = colour("line");
        const { traces, layout } = draw((text) => ({
          title: { text }, gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true,
        }));
        Plotly.newPlot(canvas, traces, {
          margin: { l: 52, r: 14, t: 12, b: 42 },
          paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
          font: { color: colour("soft"), size: 12, family: "system-ui, sans-serif" },
          legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11 } },
          ...layout,
        }, { responsive: true, displayModeBar: false });
      },
      hide() {
        if (!live) return;
        live = false;
        Plotly.purge(canvas);
      },
    };
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
  return { kinds, array, planes, colour, hue, chart, make };
})();
