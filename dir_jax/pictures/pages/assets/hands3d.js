"use strict";
// Both hands: stages, views, the true hands on demand.
Figures.kinds.hands = (figure, data) => {
  // Without perspective plotly zooms by the scene's aspect ratio; at this one the cube that holds
  // the hands fills the canvas.
  const WHOLE = { x: 2.15, y: 2.15, z: 2.15 };
  const { array, planes, make } = Figures;
  const canvas = figure.querySelector(".canvas");
  const note = figure.querySelector(".stage-note");
  const stages = data.stages.map((stage) => stage.vertices.map((hand) => array(hand, Float32Array)));
  const truth = data.truth && data.truth.map((hand) => array(hand, Float32Array));
  const faces = data.faces.map((part) => planes(array(part, Uint16Array)));
  let current = data.start;
  let shape = stages[current];
  let camera = look("front");
  let zoom = { ...WHOLE };
  let live = false;
  let playing = null;
  let truthShown = false;

  function look(view) {
    const { eye, up } = data.views[view];
    const [ex, ey, ez] = eye.map((value) => 1.25 * value);
    return {
      eye: { x: ex, y: ey, z: ez }, up: { x: up[0], y: up[1], z: up[2] },
      center: { x: 0, y: 0, z: 0 }, projection: { type: "orthographic" },
    };
  }

  function mesh(points, part, colour, name, more) {
    const [x, y, z] = planes(points);
    const [i, j, k] = part;
    return {
      type: "mesh3d", x, y, z, i, j, k, color: colour, name, hoverinfo: "name", flatshading: false,
      lighting: { ambient: 0.42, diffuse: 0.62, specular: 0.08, roughness: 0.6, fresnel: 0.02,
                  vertexnormalsepsilon: 0, facenormalsepsilon: 0 },
      // The light turns with the viewer: right, up, away from the eye, where without perspective
      // plotly stretches depth by some hundreds (found by trying).
      lightposition: { x: -60000, y: 90000, z: -420 }, ...more,
    };
  }

  function show() {
    if (live) return;
    live = true;
    const names = ["left hand", "right hand"];
    const traces = shape.map((hand, n) => mesh(hand, faces[n], data.colours[n], names[n]));
    if (truth) {
      truth.forEach((hand, n) => traces.push(mesh(hand, faces[n], data.truthColour,
        `true ${names[n]}`, { opacity: 0.45, visible: truthShown })));
    }
    const axis = (n) => ({
      visible: false, range: [data.centre[n] - data.side / 2, data.centre[n] + data.side / 2],
    });
    Plotly.newPlot(canvas, traces, {
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      scene: { xaxis: axis(0), yaxis: axis(1), zaxis: axis(2), aspectmode: "manual",
               aspectratio: zoom, camera, dragmode: "orbit" },
    }, { responsive: true, displayModeBar: false, scrollZoom: true });
    canvas.on("plotly_relayout", () => {
      camera = canvas.layout.scene.camera || camera;
      zoom = canvas.layout.scene.aspectratio || zoom;
    });
  }

  function hide() {
    if (!live) return;
    live = false;
    Plotly.purge(canvas);
  }

  function turn(view) {
    camera = look(view);
    zoom = { ...WHOLE };
    if (live) Plotly.relayout(canvas, { "scene.camera": camera, "scene.aspectratio": zoom });
  }

  function draw(points) {
    shape = points;
    if (!live) return;
    const parts = points.map(planes);
    const axes = [0, 1, 2].map((axis) => parts.map((part) => part[axis]));
    Plotly.restyle(canvas, { x: axes[0], y: axes[1], z: axes[2] }, [0, 1]);
  }

  // The mesh moves from one stage to the next, so that the eye sees what was corrected.
  function move(goal, duration) {
    const from = shape, to = stages[goal], begin = performance.now();
    return new Promise((done) => {
      const step = (now) => {
        const share = Math.min(1, (now - begin) / Math.max(1, duration));
        const eased = share * share * (3 - 2 * share);
        draw(share === 1 ? to : to.map((hand, n) => hand.map((v, m) => from[n][m] + eased * (v - from[n][m]))));
        share < 1 && current === goal ? requestAnimationFrame(step) : done();
      };
      requestAnimationFrame(step);
    });
  }

  function setStage(goal) {
    current = goal;
    mark();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    return move(goal, still ? 0 : 450);
  }

  function mark() {
    stageButtons.forEach((button, n) => button.setAttribute("aria-pressed", String(n === current)));
    note.textContent = data.stages[current].note;
    figure.dataset.stage = current;
    const result = figure.closest("[data-result]");
    result?.querySelectorAll("[data-stage-picture]").forEach((image) => {
      image.hidden = Number(image.dataset.stagePicture) !== current;
    });
  }

  async function play() {
    if (playing) { playing = null; return; }
    const mine = (playing = {});
    playButton.textContent = "Stop";
    for (let n = 0; n < stages.length && playing === mine; n += 1) {
      await setStage(n);
      await new Promise((done) => setTimeout(done, 700));
    }
    if (playing === mine) playing = null;
    playButton.textContent = "Play";
  }

  const stageButtons = data.stages.map((stage, n) => make("button", {
    type: "button", textContent: stage.label, onclick: () => { playing = null; setStage(n); },
  }));
  const playButton = make("button", { type: "button", textContent: "Play", onclick: play });
  const views = Object.keys(data.views).map((name) => make("button", {
    type: "button", textContent: name === "front" ? "as the photo" : name,
    onclick: () => turn(name),
  }));
  const controls = figure.querySelector(".controls");
  if (stages.length > 1) {
    controls.append(make("div", { className: "group stage-buttons" }, ...stageButtons), playButton);
  }
  controls.append(make("div", { className: "group view-buttons" }, ...views));
  if (truth) {
    const box = make("input", { type: "checkbox", onchange: () => {
      truthShown = box.checked;
      if (live) Plotly.restyle(canvas, { visible: truthShown }, [2, 3]);
    } });
    controls.append(make("label", { className: "truth" }, box, "true hands"));
  }
  mark();
  return { show, hide };
};
