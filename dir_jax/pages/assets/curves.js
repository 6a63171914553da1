"use strict";
// Lines over steps; drag to zoom, double click for the whole.
Figures.kinds.curves = (figure, data) => {
  const { array, colour } = Figures;
  const canvas = figure.querySelector(".canvas");
  const lines = data.curves.map((line) => ({
    ...line, x: array(line.x, Float64Array), y: array(line.y, Float64Array),
  }));
  const palette = ["#3f7fe0", "#e8833a", "#2fa36b", "#c0508f", "#8a6fdf", "#b59a1d", "#2ba3b5",
                   "#d4534f", "#7d8794", "#1d3f8f", "#7a4a21"];
  let live = false;

  function traces() {
    let number = 0;
    return lines.map((line) => {
      const trace = {
        type: "scatter", mode: data.markers ? "lines+markers" : "lines", name: line.name,
        x: line.x, y: line.y, showlegend: !line.faint, connectgaps: data.markers,
        line: { color: palette[number % palette.length], width: line.faint ? 1 : 2 },
        marker: { size: 6 }, opacity: line.faint ? 0.35 : 1,
        hoverinfo: line.faint ? "skip" : undefined,
      };
      if (!line.faint) number += 1;
      return trace;
    });
  }

  function show() {
    if (live) return;
    live = true;
    const grid = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"),
                   automargin: true };
    Plotly.newPlot(canvas, traces(), {
      margin: { l: 52, r: 14, t: 12, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified",
      font: { color: colour("soft"), size: 12, family: "system-ui, sans-serif" },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink") } },
      xaxis: { ...grid, title: { text: data.xLabel } },
      yaxis: { ...grid, title: { text: data.yLabel }, type: data.logarithmic ? "log" : "linear",
               rangemode: data.fromZero ? "tozero" : "normal", exponentformat: "power" },
      showlegend: lines.filter((line) => !line.faint).length > 1,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11 } },
    }, { responsive: true, displayModeBar: false });
  }

  function hide() {
    if (!live) return;
    live = false;
    Plotly.purge(canvas);
  }

  return { show, hide };
};
