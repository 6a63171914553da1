"use strict";
// Lines over steps; drag to zoom, double click for the whole.
Figures.kinds.curves = (figure, data) => {
  const { array, colour, hue } = Figures;
  const lines = data.curves.map((line) => ({
    ...line, x: array(line.x, Float64Array), y: array(line.y, Float64Array),
  }));

  function traces() {
    let number = 0;
    return lines.map((line) => {
      const trace = {
        type: "scatter", mode: data.markers ? "lines+markers" : "lines", name: line.name,
        x: line.x, y: line.y, showlegend: !line.faint, connectgaps: data.markers,
        line: { color: hue(number), width: line.faint ? 1 : 2 },
        marker: { size: 6 }, opacity: line.faint ? 0.35 : 1,
        hoverinfo: line.faint ? "skip" : undefined,
      };
      if (!line.faint) number += 1;
      return trace;
    });
  }

  return Figures.chart(figure, (axis) => ({
    traces: traces(),
    layout: {
      hovermode: "x unified",
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink") } },
      xaxis: axis(data.xLabel),
      yaxis: { ...axis(data.yLabel), type: data.logarithmic ? "log" : "linear",
               rangemode: data.fromZero ? "tozero" : "normal", exponentformat: "power" },
      showlegend: lines.filter((line) => !line.faint).length > 1,
    },
  }));
};
