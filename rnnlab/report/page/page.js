"use strict";
const root = document.documentElement;
const figures = [...document.querySelectorAll("figure")].map((figure) => {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  return { figure, ...spec, picture: spec.pictures[0] };
});

/* Colours stand in the records as names of CSS properties. */
function painted(value) {
  if (typeof value === "string") return value.startsWith("--") ? getComputedStyle(root).getPropertyValue(value) : value;
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(painted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, painted(part)]));
}

/* What all figures share; touch scrolls the page and does not zoom. */
function template() {
  const axis = {
    gridcolor: "--grid", linecolor: "--muted", zeroline: false, showline: true, automargin: true, ticks: "outside",
    tickcolor: "--muted", title: { standoff: 8 }, exponentformat: "power",
  };
  const layout = {
    font: { family: "system-ui, sans-serif", size: 13, color: "--ink" }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 8, r: 20, t: 8, b: 8 }, xaxis: axis, yaxis: axis,
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: "--card", bordercolor: "--muted", font: { color: "--ink", size: 13 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "--muted", activecolor: "--accent" },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  };
  return painted({ layout });
}

function draw({ figure, picture }, size = {}) {
  const layout = { ...painted(picture.layout), ...size, template: template(), uirevision: ["picture", ...picture.key].join() };
  /* On a narrow page the buttons would lie on the legend; a double click resets the axes too. */
  const config = {
    responsive: true, displaylogo: false, displayModeBar: innerWidth >= 600,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };
  return Plotly.react(figure.querySelector(".plot"), painted(picture.data), layout, config);
}

/* A chooser for each part of a key that differs; a part that the new choice lacks moves to the nearest that it has. */
function choosers(item) {
  const parts = item.names.map((name, place) => ({ name, place, values: [...new Set(item.pictures.map((p) => p.key[place]))] }));
  const offered = parts.filter((part) => part.values.length > 1).map((part) => {
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(...part.values.map((value) => new Option(value, value)));
    label.append(part.name, select);
    item.figure.querySelector(".choosers").append(label);
    return { ...part, select };
  });
  for (const changed of offered) {
    changed.select.addEventListener("change", () => {
      const fit = (p) => offered.filter(({ place, select }) => p.key[place] === select.value).length
        + (p.key[changed.place] === changed.select.value ? offered.length : 0);
      item.picture = item.pictures.reduce((best, p) => (fit(p) > fit(best) ? p : best));
      for (const { place, select } of offered) select.value = item.picture.key[place];
      item.figure.querySelector("h3").textContent = item.picture.title;
      draw(item);
    });
  }
}

/* Numbers by their value, words by the alphabet; what is missing stays last either way. */
function sort(table, column) {
  const header = table.tHead.rows[0].cells[column];
  const up = header.ariaSort !== "ascending";
  for (const cell of table.tHead.rows[0].cells) cell.ariaSort = cell === header ? (up ? "ascending" : "descending") : "none";
  const missing = (row) => row.cells[column].dataset.missing !== undefined;
  const order = (a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const [x, y] = [a, b].map((row) => row.cells[column]);
    const less = "value" in x.dataset && "value" in y.dataset
      ? x.dataset.value - y.dataset.value : x.textContent.localeCompare(y.textContent, "en", { numeric: true });
    return up ? less : -less;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
}

async function copy(button) {
  const text = button.closest(".card").querySelector("code");
  getSelection().selectAllChildren(text);
  const said = button.nextElementSibling;
  try {
    await navigator.clipboard.writeText(text.textContent);
    said.textContent = "copied";
  } catch {
    said.textContent = document.execCommand("copy") ? "copied" : "the command is selected; copy it with the keyboard";
  }
}

/* The drawing library travels compressed, and is unpacked here. */
async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

async function start() {
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("table"), button.parentElement.cellIndex));
  }
  for (const button of document.querySelectorAll(".copy button")) button.addEventListener("click", () => copy(button));
  await unpack();
  for (const item of figures) {
    choosers(item);
    await draw(item);
  }
  const fit = (item) => draw(item).then((plot) => Plotly.Plots.resize(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach((item) => draw(item)));
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    figures.forEach((item) => draw(item, { width: 660, height: 400 }));
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    figures.forEach(fit);
  });
  root.dataset.drawn = figures.length;
}

start().catch((fault) => {
  for (const { figure } of figures) figure.querySelector(".plot").textContent = `This browser cannot draw the figure: ${fault.message}`;
});
