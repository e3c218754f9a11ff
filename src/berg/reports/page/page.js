// What the page shows, and how a choice changes it.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector) => document.querySelector(selector);
const HEMISPHERE_NAMES = { lh: "left", rh: "right" };
const state = { group: 0, map: 0, region: null };

const group = () => data.groups[state.group];
const map = () => group().maps[state.map];

/** The values of a map as floats, by hemisphere; NaN where there is none. */
function mapValues({ values, step }) {
  return Object.fromEntries(
    HEMISPHERES.map((hemi) => {
      const steps = unpack(values[hemi], Int16Array);
      return [hemi, Float32Array.from(steps, (n) => (n === NO_VALUE ? NaN : n * step))];
    }),
  );
}

const unpacked = new WeakMap(); // regions, which pointing at the brain asks for again and again

function regionVertices(region) {
  if (!unpacked.has(region)) {
    const vertices = HEMISPHERES.map((hemi) => [hemi, unpack(region[hemi], Uint16Array)]);
    unpacked.set(region, Object.fromEntries(vertices));
  }
  return unpacked.get(region);
}

function written(value, decimals) {
  if (value === null || Number.isNaN(value)) return "–";
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

let brain = null;
try {
  brain = new Brain(find("#brain"), data.mesh);
} catch (error) {
  if (error.message !== NO_WEBGL) console.error(error);
  find("#no-brain").hidden = false;
  find("#stage").hidden = true;
}

function showMap() {
  const { title, scale: number } = map();
  const scale = data.scales[number];
  find("#map-title").textContent = title;
  for (const place of document.querySelectorAll("[data-shown]")) {
    place.hidden = place.dataset.shown !== `${state.group}-${state.map}`;
  }
  showColourBar(scale);
  showBars(scale);
  markChosen();
  if (brain) {
    brain.showMap(mapValues(map()), scale);
    brain.outline(state.region === null ? null : regionVertices(group().regions[state.region]));
  }
}

function showColourBar({ colours, low, high, label, decimals }) {
  const bytes = unpack(colours, Uint8Array);
  const stops = Array.from({ length: 17 }, (_, i) => {
    const at = 3 * Math.round((i * 255) / 16);
    return `rgb(${bytes.slice(at, at + 3).join(" ")})`;
  });
  find("#colour-bar .ramp").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const ticks = [low, (low + high) / 2, high].map((value) => written(value, decimals));
  find("#colour-bar .ticks").replaceChildren(
    ...ticks.map((text) => Object.assign(document.createElement("span"), { textContent: text })),
  );
  find("#colour-bar .label").textContent = label;
}

/** The ends of bars, the same for all maps and subjects of a scale: so they can be compared. */
function barEnds(scale) {
  const maps = data.groups.flatMap(({ maps }) => maps).filter((each) => each.scale === scale);
  const values = maps.flatMap(({ bars }) => bars.flat()).filter((value) => value !== null);
  const longest = Math.max(...values.map(Math.abs), 1e-9);
  return { longest, isSigned: values.some((value) => value < 0) };
}

/** One row a region, with a bar for each hemisphere; the rows choose the outlined region. */
function showBars({ decimals, units }) {
  const rows = find("#bars");
  if (!rows) return;
  const { regions } = group();
  const { bars, scale } = map();
  const { longest, isSigned } = barEnds(scale);
  const zero = isSigned ? 50 : 0;
  const end = `${written(longest, decimals)} ${units}`.trim();
  const ends = isSigned ? [written(-longest, decimals), "0", end] : ["0", "", end];
  find("#bar-ends").replaceChildren(
    ...ends.map((text) => Object.assign(document.createElement("span"), { textContent: text })),
  );
  rows.replaceChildren(
    ...bars.map((pair, number) => {
      const row = document.createElement("button");
      row.type = "button";
      row.className = "bar-row";
      row.dataset.region = regions[number].name;
      row.setAttribute("aria-pressed", String(state.region === number));
      const name = document.createElement("span");
      name.className = "name";
      name.textContent = regions[number].name;
      const track = document.createElement("span");
      track.className = "track";
      track.style.setProperty("--zero", `${zero}%`);
      const numbers = document.createElement("span");
      numbers.className = "numbers";
      pair.forEach((value, i) => {
        const hemi = HEMISPHERES[i];
        if (value !== null) {
          const bar = document.createElement("i");
          bar.className = hemi;
          const share = ((100 - zero) * Math.abs(value)) / longest;
          bar.style.width = `${share}%`;
          bar.style.left = `${value < 0 ? zero - share : zero}%`;
          track.append(bar);
        }
        const text = document.createElement("b");
        text.textContent = written(value, decimals);
        numbers.append(text);
      });
      row.append(name, track, numbers);
      row.addEventListener("click", () => chooseRegion(number));
      return row;
    }),
  );
}

function chooseRegion(number) {
  state.region = number === null || state.region === number ? null : number;
  for (const row of document.querySelectorAll(".bar-row")) {
    const isChosen = state.region !== null && row.dataset.region === group().regions[state.region].name;
    row.setAttribute("aria-pressed", String(isChosen));
  }
  find("#region").value = state.region === null ? "" : group().regions[state.region].name;
  markChosen();
  if (!brain) return;
  const region = state.region === null ? null : regionVertices(group().regions[state.region]);
  brain.outline(region);
}

/** Mark what is chosen wherever the page shows it: picker, matrix and gallery. */
function markChosen() {
  const region = state.region === null ? null : group().regions[state.region].name;
  for (const each of document.querySelectorAll("[data-map]")) {
    const [of, number] = each.dataset.map.split("-").map(Number);
    each.classList.toggle("chosen", of === state.group && number === state.map);
    if (each.type === "radio") each.checked = of === state.group && number === state.map;
  }
  for (const row of document.querySelectorAll("tr[data-region]")) {
    row.classList.toggle("chosen", row.dataset.region === region);
  }
  for (const part of document.querySelectorAll("[data-group]")) {
    part.hidden = Number(part.dataset.group) !== state.group;
  }
}

function listRegions() {
  const none = new Option("none", "");
  const { regions } = group();
  find("#region").replaceChildren(none, ...regions.map(({ name }) => new Option(name, name)));
  find("#region").closest("label").hidden = !regions.length;
}

listRegions();
listenToPickers();
if (brain) {
  listenToBrain();
  listenToControls();
}
showMap();
document.documentElement.dataset.ready = "true";
