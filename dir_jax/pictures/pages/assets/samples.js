"use strict";
// A pager through samples: pictures, hands in space, numbers; a list that can be sorted.
Figures.kinds.samples = (root, data) => {
  const { kinds, make } = Figures;
  const samples = data.samples;
  let order = samples.map((_, number) => number);
  let current = 0;
  let sorted = null;
  let part = null;
  let live = false;
  let truthWanted = true;

  const text = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));

  // The hands' figure is built anew for every sample; the choice of the true hands stays.
  function buildHands(sample) {
    if (part) part.hide();
    const figure = make("figure", { className: "hands3d" },
      make("div", { className: "canvas", role: "img", ariaLabel: "both hands in 3D" }),
      make("div", { className: "controls" }), make("p", { className: "stage-note" }));
    place.replaceChildren(figure);
    part = kinds.hands(figure, { ...sample.hands, ...data.shared });
    const box = figure.querySelector(".truth input");
    if (live) part.show();
    if (box && truthWanted) box.click();
    if (box) box.addEventListener("change", () => { truthWanted = box.checked; });
  }

  function buildPictures(sample) {
    pictures.replaceChildren(...sample.pictures.map(({ label, uris }) => {
      const images = uris.map((uri, stage) => {
        const image = make("img", { src: uri, alt: label });
        if (uris.length > 1) image.dataset.stagePicture = stage;
        return image;
      });
      return make("figure", { className: "picture" }, ...images,
        make("figcaption", { textContent: label }));
    }));
  }

  function buildNumbers(sample) {
    numbers.replaceChildren(...data.columns.map((name, n) => make("div", {},
      make("dt", { textContent: name }), make("dd", { textContent: text(sample.numbers[n]) }))));
  }

  function open(number) {
    current = number;
    const sample = samples[number];
    title.textContent = sample.name;
    root.dataset.sample = number;
    groupButtons.forEach((button) => button.setAttribute("aria-pressed",
      String(sample.groups.includes(button.textContent))));
    buildPictures(sample);
    buildNumbers(sample);
    buildHands(sample);
    mark();
  }

  function mark() {
    count.textContent = `${order.indexOf(current) + 1} of ${order.length}`;
    [...body.children].forEach((row) =>
      row.classList.toggle("chosen", Number(row.dataset.number) === current));
  }

  function step(by) {
    const at = (order.indexOf(current) + by + order.length) % order.length;
    open(order[at]);
  }

  function key(number, column) {
    return column < 0 ? samples[number].name : samples[number].numbers[column];
  }

  function sortBy(column) {
    const down = sorted && sorted.column === column ? !sorted.down : column >= 0;
    sorted = { column, down };
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    // What has no number comes last either way.
    order.sort((a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (down ? -1 : 1) * compare(x, y);
    });
    fillList();
    mark();
  }

  function fillList() {
    body.replaceChildren(...order.map((number) => {
      const sample = samples[number];
      const row = make("tr", { onclick: () => open(number) },
        make("td", {}, make("button", { type: "button", className: "link", textContent: sample.name })),
        ...sample.numbers.map((value) => make("td", { className: "number", textContent: text(value) })),
        make("td", { textContent: sample.groups.join(", ") }));
      row.dataset.number = number;
      return row;
    }));
    heads.forEach((head, n) => {
      const mine = sorted && sorted.column === n - 1;
      head.setAttribute("aria-sort", mine ? (sorted.down ? "descending" : "ascending") : "none");
    });
  }

  root.dataset.result = "";
  const title = make("h3", {});
  const count = make("span", { className: "note" });
  const groupButtons = data.groups.map((name) => make("button", {
    type: "button", textContent: name,
    onclick: () => open(order.find((number) => samples[number].groups.includes(name))),
  }));
  const bar = make("div", { className: "controls" },
    make("button", { type: "button", textContent: "‹ previous", onclick: () => step(-1) }),
    make("button", { type: "button", textContent: "next ›", onclick: () => step(1) }),
    make("div", { className: "group" }, ...groupButtons), count);
  const place = make("div", {});
  const pictures = make("div", { className: "grid sample-pictures" });
  const numbers = make("dl", { className: "numbers" });
  const heads = [-1, ...data.columns.keys()].map((column) => make("th", {
    scope: "col", onclick: () => sortBy(column),
  }, make("button", { type: "button", className: "link",
    textContent: column < 0 ? "sample" : data.columns[column] })));
  const body = make("tbody", {});
  const list = make("div", { className: "scroll sample-list" }, make("table", {},
    make("thead", {}, make("tr", {}, ...heads, make("th", { textContent: "shown as" }))), body));
  root.append(bar, title, make("div", { className: "grid" }, place,
    make("div", {}, pictures, numbers)), list);
  root.tabIndex = 0;
  root.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  fillList();
  open(0);

  return {
    show() { live = true; part.show(); },
    hide() { live = false; part.hide(); },
  };
};
