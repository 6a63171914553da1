"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const SENT_AS_THEY_ARE = ["image/jpeg", "image/png"];
  const SMALLEST = 8; // pixels on the screen: less is a click, not a box
  let photo = null, name = "photo", start = null, busy = false;

  function complain(text) {
    at("message").textContent = text;
    at("message").hidden = !text;
  }

  async function open(file) {
    complain("");
    name = file.name || "photo";
    const url = URL.createObjectURL(file);
    try {
      at("image").src = url;
      await at("image").decode();
    } catch {
      at("image").removeAttribute("src");
      complain(`${name} is not a photo that this browser can show`);
      return;
    }
    photo = SENT_AS_THEY_ARE.includes(file.type) ? file : await redrawn(at("image"));
    if (photo.size > LIMITS.bytes) {
      complain(`${name} has more than ${LIMITS.bytes >> 20} MB; make it smaller`);
      return;
    }
    at("drop").hidden = true;
    at("work").hidden = false;
    at("box").hidden = true;
    at("result").hidden = true;
    at("status").textContent = "Drag a box around both hands.";
  }

  // WebP, AVIF, HEIC...: what the browser can show becomes a PNG before it is sent.
  function redrawn(image) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  async function send(box) {
    if (!photo || busy) return;
    busy = true;
    document.body.classList.add("busy");
    at("status").textContent = "Looking for the hands' shape";
    complain("");
    const query = new URLSearchParams({ name });
    if (box) query.set("box", box.map((value) => value.toFixed(1)).join(","));
    try {
      const answer = await fetch(`/reconstruct?${query}`, {
        method: "POST", headers: { "Content-Type": photo.type }, body: photo,
      });
      const content = await answer.json();
      if (content.error) throw new Error(content.error);
      at("viewer").src = content.result;
      at("save").href = content.result;
      at("save").download = `${name.replace(/\.[^.]*$/, "")}.html`;
      at("result").hidden = false;
      at("status").textContent = "Drag another box to try again.";
    } catch (error) {
      const lost = error instanceof TypeError;
      complain(lost ? "The program behind this page does not answer; is it still running?" : error.message);
      at("status").textContent = "Drag a box around both hands.";
    }
    busy = false;
    document.body.classList.remove("busy");
  }

  function place(event) {
    const area = at("image").getBoundingClientRect();
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    return [clamp(event.clientX - area.left, area.width), clamp(event.clientY - area.top, area.height)];
  }

  function corners(from, to) {
    return [Math.min(from[0], to[0]), Math.min(from[1], to[1]),
            Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
  }

  at("photo").addEventListener("pointerdown", (event) => {
    if (busy || event.button !== 0) return;
    event.preventDefault();
    start = place(event);
    at("photo").setPointerCapture(event.pointerId);
  });
  at("photo").addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y, width, height] = corners(start, place(event));
    Object.assign(at("box").style, {
      left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px`,
    });
    at("box").hidden = false;
  });
  at("photo").addEventListener("pointerup", (event) => {
    if (!start) return;
    const box = corners(start, place(event));
    start = null;
    if (box[2] < SMALLEST || box[3] < SMALLEST) {
      at("box").hidden = true;
      return;
    }
    const scale = at("image").naturalWidth / at("image").getBoundingClientRect().width;
    send(box.map((value) => value * scale));
  });
  at("photo").addEventListener("pointercancel", () => { start = null; });

  at("file").addEventListener("change", () => {
    if (at("file").files.length) open(at("file").files[0]);
    at("file").value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    });
  }
  at("whole").addEventListener("click", () => { at("box").hidden = true; send(null); });
  at("another").addEventListener("click", () => {
    photo = null;
    at("work").hidden = true;
    at("result").hidden = true;
    at("drop").hidden = false;
    complain("");
  });
  at("viewer").addEventListener("load", () => {
    const inside = at("viewer").contentDocument;
    if (!inside?.body) return;
    inside.documentElement.style.overflow = "hidden"; // one scroll bar is enough
    const fit = () => {
      at("viewer").style.height = `${Math.ceil(inside.body.getBoundingClientRect().height)}px`;
    };
    new ResizeObserver(fit).observe(inside.body);
    fit();
    at("result").scrollIntoView({ behavior: "smooth" });
  });
})();
