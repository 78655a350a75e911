"use strict";
// Copy buttons.
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => {
    const text = button.parentElement.querySelector("code").textContent;
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
// One line through all drawings at the moment that is pointed at.
const plots = [...document.querySelectorAll("svg.plot")];
for (const plot of plots) {
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cross.setAttribute("class", "cross");
  plot.append(cross);
}
const point = (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * 1000;
  for (const plot of plots) {
    const inside = event.type === "mousemove" && x >= 84 && x <= 990;
    plot.lastElementChild.setAttribute("d", inside ? `M${x.toFixed(1)} 0V${plot.viewBox.baseVal.height - 16}` : "");
  }
};
for (const plot of plots) {
  plot.addEventListener("mousemove", point);
  plot.addEventListener("mouseleave", point);
}
// The timeline: what a bar tells, zoom, and the way to a bar that is linked.
const source = document.getElementById("operations");
if (source) {
  const told = document.getElementById("told");
  const scroll = document.querySelector(".scroll");
  const canvas = document.querySelector(".canvas");
  const bars = document.querySelector("svg.bars");
  const operations = new Map(JSON.parse(source.textContent).map((row) => [row[0], row]));
  let kept = null;
  const tell = (bar) => {
    const row = bar && operations.get(Number(bar.id.slice(1)));
    if (!row) { told.textContent = ""; return; }
    const [index, process, f, key, asked, outcome, answered, error, node, revision, from, to] = row;
    const parts = [`#${index} process ${process} → ${node ?? "?"}: ${f} ${key ?? ""} ${asked}`.trim()];
    parts.push(`${outcome} ${answered} ${error ?? ""}`.trim() + (revision === null ? "" : `, revision ${revision}`));
    parts.push(`${(from / 1e6).toFixed(6)} s to ${(to / 1e6).toFixed(6)} s, ${((to - from) / 1e3).toFixed(2)} ms`);
    told.textContent = parts.join("\n");
  };
  bars.addEventListener("mouseover", (event) => { if (event.target.id) tell(event.target); });
  bars.addEventListener("mouseleave", () => tell(kept));
  const keep = (bar) => {
    if (kept) kept.classList.remove("kept");
    kept = bar;
    if (bar) bar.classList.add("kept");
    tell(bar);
  };
  bars.addEventListener("click", (event) => keep(event.target.id ? event.target : null));
  const zoom = (factor) => {
    const lanes = document.querySelector(".lanes").offsetWidth;
    const whole = scroll.clientWidth - lanes;
    const middle = (scroll.scrollLeft + whole / 2) / canvas.offsetWidth;
    const width = factor === 0 ? whole : Math.min(Math.max(canvas.offsetWidth * factor, whole), 2e6);
    canvas.style.width = `${width}px`;
    canvas.classList.toggle("dense", width / (canvas.dataset.to - canvas.dataset.from) * 1e9 < 40);
    scroll.scrollLeft = middle * width - whole / 2;
  };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  const go = () => {
    const bar = location.hash.startsWith("#o") && document.getElementById(location.hash.slice(1));
    if (!bar) return;
    keep(bar);
    const place = (Number(bar.getAttribute("x")) + Number(bar.getAttribute("width")) / 2) / 1e5;
    scroll.scrollLeft = place * canvas.offsetWidth - scroll.clientWidth / 2;
    document.getElementById("timeline").scrollIntoView();
  };
  window.addEventListener("hashchange", go);
  const link = document.querySelector("h1 a");
  const first = link && document.getElementById(link.hash.replace("#c", "o"));
  if (first) scroll.scrollLeft = Number(first.getAttribute("x")) / 1e5 * canvas.offsetWidth - scroll.clientWidth / 2;
  go();
}
