"use strict";
// Bars and histograms.
Figures.kinds.bars = (figure, data) => Figures.chart(figure, (axis) => {
  const hover = "%{x}: %{y:.4g}" + (data.notes ? " (%{customdata})" : "") + "<extra></extra>";
  const traces = data.bars.map(({ name, heights }, n) => ({
    type: "bar", name, x: data.labels, y: heights, hovertemplate: hover,
    customdata: data.notes || undefined, marker: { color: Figures.hue(n) },
    opacity: data.touching && data.bars.length > 1 ? 0.6 : 1,
  }));
  const layout = {
    barmode: data.touching ? "overlay" : "group", bargap: data.touching ? 0 : 0.25,
    showlegend: traces.length > 1,
    xaxis: { ...axis(data.xLabel), gridcolor: "rgba(0,0,0,0)" }, yaxis: axis(data.yLabel),
  };
  return { traces, layout };
});
