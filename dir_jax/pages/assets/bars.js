"use strict";
// Bars and histograms.
Figures.kinds.bars = (figure, data) => {
  const canvas = figure.querySelector(".canvas");
  const HUES = ["#3f7fe0", "#e8833a", "#2fa36b", "#c0508f", "#8a6fdf", "#b59a1d"];
  let live = false;

  function show() {
    if (live) return;
    live = true;
    const ink = Figures.colour("soft"), line = Figures.colour("line");
    const axis = (text) => ({
      title: { text }, gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true,
    });
    const hover = "%{x}: %{y:.4g}" + (data.notes ? " (%{customdata})" : "") + "<extra></extra>";
    const traces = data.bars.map(({ name, heights }, n) => ({
      type: "bar", name, x: data.labels, y: heights, hovertemplate: hover,
      customdata: data.notes || undefined, marker: { color: HUES[n % HUES.length] },
      opacity: data.touching && data.bars.length > 1 ? 0.6 : 1,
    }));
    Plotly.newPlot(canvas, traces, {
      margin: { l: 52, r: 10, t: 12, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif", size: 12 },
      barmode: data.touching ? "overlay" : "group", bargap: data.touching ? 0 : 0.25,
      showlegend: traces.length > 1, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
      xaxis: { ...axis(data.xLabel), gridcolor: "rgba(0,0,0,0)" }, yaxis: axis(data.yLabel),
    }, { responsive: true, displayModeBar: false });
  }

  function hide() {
    if (!live) return;
    live = false;
    Plotly.purge(canvas);
  }

  return { show, hide };
};
