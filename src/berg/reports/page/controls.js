// What a person does, and what follows: pickers, buttons, mouse, touch and keys.

function listenToPickers() {
  document.addEventListener("change", ({ target }) => {
    if (target.matches("input[data-map]")) {
      [state.group, state.map] = target.dataset.map.split("-").map(Number);
      showMap();
    } else if (target.id === "group") {
      state.group = Number(target.value);
      state.map = Math.min(state.map, group().maps.length - 1);
      state.region = null;
      listRegions();
      showMap();
    } else if (target.id === "region") {
      const number = group().regions.findIndex(({ name }) => name === target.value);
      chooseRegion(number < 0 ? null : number);
    }
  });
  document.addEventListener("click", ({ target }) => {
    const shower = target.closest("button[data-map]");
    const row = target.closest("button[data-outline]");
    if (shower) {
      [state.group, state.map] = shower.dataset.map.split("-").map(Number);
      showMap();
      if (shower.dataset.jump !== undefined) find("#explore").scrollIntoView({ behavior: "smooth" });
    } else if (row) {
      chooseRegion(group().regions.findIndex(({ name }) => name === row.dataset.outline));
    }
  });
}

function listenToBrain() {
  const { canvas } = brain;
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    find("#hover").hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      showHover(event.offsetX, event.offsetY);
      return;
    }
    const apart = pointers.size === 2 ? spread() : 0;
    const now = { x: event.offsetX, y: event.offsetY };
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) {
      brain.zoomBy(spread() / (apart || 1));
    } else {
      const speed = 0.4 / Math.sqrt(brain.zoom);
      brain.turnBy((before.x - now.x) * speed, (now.y - before.y) * speed);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => {
    find("#hover").hidden = true;
  });
  // The wheel alone scrolls the page; with Ctrl, which a trackpad's pinch means too, it zooms.
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      brain.zoomBy(Math.exp(-event.deltaY / 300));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => brain.turnBy(-10, 0),
      ArrowRight: () => brain.turnBy(10, 0),
      ArrowUp: () => brain.turnBy(0, 10),
      ArrowDown: () => brain.turnBy(0, -10),
      "+": () => brain.zoomBy(1.2),
      "-": () => brain.zoomBy(1 / 1.2),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  brain.onDraw = showCompass;
}

function showHover(x, y) {
  const hover = find("#hover");
  const found = brain.vertexAt(x, y);
  hover.hidden = !found;
  if (!found) return;
  const { hemi, vertex } = found;
  const scale = data.scales[map().scale];
  const value = brain.values[hemi][vertex];
  const regions = group()
    .regions.filter((region) => regionVertices(region)[hemi].includes(vertex))
    .map(({ name }) => name);
  const decimals = Math.max(0, Math.min(3, Math.floor(-Math.log10(map().step)))); // that are known
  const shown = Number.isNaN(value) ? "no value" : `${written(value, decimals)} ${scale.units}`;
  hover.replaceChildren(
    ...[
      `${HEMISPHERE_NAMES[hemi]} hemisphere, vertex ${vertex}`,
      shown,
      regions.join(", "),
    ].map((text) => Object.assign(document.createElement("span"), { textContent: text })),
  );
  hover.dataset.hemi = hemi;
  hover.dataset.vertex = vertex;
  const { clientWidth, clientHeight } = brain.canvas;
  hover.style.left = `${Math.min(x + 14, clientWidth - hover.offsetWidth - 4)}px`;
  hover.style.top = `${Math.min(y + 14, clientHeight - hover.offsetHeight - 4)}px`;
}

/** Letters that turn with the brain: left, right, anterior, posterior, superior, inferior. */
function showCompass() {
  const [right, up, near] = brain.axes();
  const ends = { L: [0, -1], R: [0, 1], P: [1, -1], A: [1, 1], I: [2, -1], S: [2, 1] };
  for (const letter of document.querySelectorAll("#compass text")) {
    const [axis, sense] = ends[letter.textContent];
    letter.setAttribute("x", 30 + 22 * sense * right[axis]);
    letter.setAttribute("y", 34 - 22 * sense * up[axis]);
    const isInWay = Math.abs(near[axis]) > 0.85;
    letter.setAttribute("opacity", isInWay ? 0 : 0.75 + 0.25 * sense * near[axis]);
  }
}

function listenToControls() {
  for (const button of document.querySelectorAll("button[data-view]")) {
    button.addEventListener("click", () => {
      brain.turnTo(...button.dataset.view.split(" ").map(Number));
    });
  }
  for (const button of document.querySelectorAll("button[data-zoom]")) {
    button.addEventListener("click", () => brain.zoomBy(Number(button.dataset.zoom)));
  }
  for (const input of document.querySelectorAll("input[name=hemispheres]")) {
    input.addEventListener("change", () => {
      brain.visible = new Set(input.value.split(" "));
      brain.draw();
    });
  }
  for (const input of document.querySelectorAll("input[name=surface]")) {
    input.addEventListener("change", () => inflateTo(input.value === "inflated" ? 1 : 0));
  }
  find("#save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = brain.canvas.toDataURL("image/png");
    link.download = "brain.png";
    link.click();
  });
}

function inflateTo(target) {
  const start = brain.inflation;
  const isInstant = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const began = performance.now();
  const step = (now) => {
    const share = isInstant ? 1 : Math.min(1, (now - began) / 500);
    brain.inflation = start + (target - start) * share * share * (3 - 2 * share);
    brain.draw();
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
