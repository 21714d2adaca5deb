"use strict";

(() => {
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const MINUS = "\u2212";
  const written = (value, decimals = 3) => value.toFixed(decimals).replace("-", MINUS);
  const share = (part, whole) => (whole ? ` (${((100 * part) / whole + 1e-9).toFixed(1)} %)` : "");

  document.body.classList.add("ready");

  // What the page says of each image, and where. Numbers that are missing are NaN.
  const body = find("main > #table tbody");
  const rows = all("tr", body).map((element) => {
    const data = element.dataset;
    return {
      element,
      index: Number(data.index),
      name: find(".name bdi", element).textContent,
      kind: find(".kind", element)?.textContent ?? "",
      defect: data.defect === undefined ? null : data.defect === "1",
      readable: data.score !== undefined,
      score: Number(data.score ?? NaN),
      p_value: Number(data.p_value ?? NaN),
      peak: Number(data.peak ?? NaN),
      area: Number(data.area ?? NaN),
      regions: Number(data.regions ?? NaN),
      badge: find(".badge", element),
      flagged: null,
    };
  });
  const hasLabels = rows.some((row) => row.defect !== null);
  const pictures = JSON.parse(find("#pictures").textContent);

  // Pictures are made when they are about to be seen: a page of thousands would take seconds to load.
  const source = (data) => `data:image/webp;base64,${data}`;
  function show(row) {
    const [picture, map] = all("img", row.element);
    if (picture && !picture.src) {
      [picture.src, map.src] = pictures[row.index].map(source);
    }
  }
  const byElement = new Map(rows.map((row) => [row.element, row]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          show(byElement.get(entry.target));
          seen.unobserve(entry.target);
        }
      }
    },
    { rootMargin: "800px" },
  );
  rows.forEach((row) => seen.observe(row.element));
  addEventListener("beforeprint", () => rows.forEach(show));

  // The threshold. A score equal to it is not flagged; an image that can't be read always is.
  const { threshold: detectors, step, first, last } = Object.fromEntries(
    Object.entries(document.body.dataset).map(([key, value]) => [key, Number(value)]),
  );
  let threshold = detectors;

  function verdictOf(row) {
    if (row.defect === null) return row.flagged ? "flagged" : "passed";
    if (row.defect) return row.flagged ? "found" : "missed";
    return row.flagged ? "false alarm" : "passed";
  }

  function judge() {
    for (const row of rows) {
      const flagged = !(row.score - threshold >= 0);
      if (flagged !== row.flagged) {
        row.flagged = flagged;
        row.verdict = verdictOf(row);
        row.badge.textContent = row.verdict;
        row.badge.className = `badge ${row.verdict.replace(" ", "-")}`;
      }
    }
  }

  function countsText() {
    const n = (condition) => rows.filter(condition).length;
    const flagged = n((row) => row.flagged);
    const parts = [`Flagged: ${flagged} of ${rows.length}${share(flagged, rows.length)}`];
    if (hasLabels) {
      const [defects, good] = [n((row) => row.defect), n((row) => !row.defect)];
      const [found, alarms] = [n((row) => row.defect && row.flagged), n((row) => !row.defect && row.flagged)];
      parts.push(`Defects found: ${found} of ${defects}${share(found, defects)}`);
      parts.push(`False alarms: ${alarms} of ${good}${share(alarms, good)}`);
    }
    return parts;
  }

  const slider = find("#slider");
  function moveThreshold(value, origin) {
    threshold = value;
    judge();
    const position = Math.min(Math.max(Math.round((threshold - detectors) / step), first), last);
    if (origin !== slider) slider.value = position;
    const number = find("#threshold");
    if (origin !== number) number.value = Number(threshold.toPrecision(6));
    const exact = ((threshold - detectors) / step - first) / (last - first);
    const percent = `${100 * Math.min(Math.max(exact, 0), 1)}%`;
    find("#flagged-side").setAttribute("width", percent);
    find("#threshold-line").setAttribute("x1", percent);
    find("#threshold-line").setAttribute("x2", percent);
    const parts = countsText();
    find("#counts").replaceChildren(...parts.map((part) => {
      const item = document.createElement("span");
      item.textContent = part;
      return item;
    }));
    slider.setAttribute("aria-valuetext", `${written(threshold)}. ${parts.join(". ")}`);
    find("#reset-threshold").disabled = find("#use").hidden = threshold === detectors;
    find("#use code").textContent = `detector.offset_ = ${threshold}`;
    filter();
  }
  if (slider) {
    slider.addEventListener("input", () => moveThreshold(detectors + Number(slider.value) * step, slider));
    find("#threshold").addEventListener("input", (event) => {
      const value = event.target.valueAsNumber;
      if (Number.isFinite(value)) moveThreshold(value, event.target);
    });
    find("#reset-threshold").addEventListener("click", () => moveThreshold(detectors, null));
  }

  // Sorting. Images that can't be read come before the lowest numbers, as the ones to look at first.
  const collator = new Intl.Collator("en", { numeric: true });
  const order = {
    name: (a, b) => collator.compare(a.name, b.name),
    kind: (a, b) => collator.compare(a.kind, b.kind),
    verdict: (a, b) => collator.compare(a.verdict, b.verdict),
  };
  const byNumber = (key) => (a, b) => {
    const [x, y] = [a[key], b[key]].map((value) => (Number.isNaN(value) ? -Infinity : value));
    return x < y ? -1 : x > y ? 1 : 0;
  };

  function sortBy(header) {
    const key = header.dataset.key;
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    all("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const compare = order[key] ?? byNumber(key);
    const sign = ascending ? 1 : -1;
    rows.sort((a, b) => sign * compare(a, b) || a.index - b.index);
    body.append(...rows.map((row) => row.element));
    filter();
  }
  for (const header of all("th[data-key]")) {
    find("button", header).addEventListener("click", () => sortBy(header));
  }

  // Filters.
  const [search, verdict, kind] = ["#search", "#verdict", "#kind"].map((id) => find(id));
  function matches(row) {
    const wanted = verdict.value;
    const isVerdict =
      wanted === "" ||
      row.verdict === wanted ||
      (wanted === "flagged" && row.flagged) ||
      (wanted === "unreadable" && !row.readable);
    const isKind = !kind || kind.value === "" || kind.value === `=${row.kind}`;
    return isVerdict && isKind && row.name.toLowerCase().includes(search.value.toLowerCase());
  }
  // Of thousands of rows the first are shown, and more when one scrolls there: to lay out all takes a second.
  const BATCH = 200;
  const more = find("#more");
  let listed = []; // rows that match, in their order
  function filter(limit = BATCH) {
    listed = rows.filter(matches);
    for (const row of rows) row.element.hidden = true;
    for (const row of listed.slice(0, limit)) row.element.hidden = false;
    more.hidden = listed.length <= limit;
    more.dataset.limit = limit;
    find("#shown").textContent = `${listed.length} of ${rows.length} match`;
  }
  const showMore = () => filter(Number(more.dataset.limit) + BATCH);
  more.addEventListener("click", showMore);
  new IntersectionObserver(([entry]) => entry.isIntersecting && showMore(), { rootMargin: "1200px" }).observe(more);
  find("#filters").addEventListener("input", () => filter());
  find("#filters").addEventListener("submit", (event) => event.preventDefault());

  // Maps and boxes, on or off everywhere at once.
  for (const layer of ["maps", "boxes"]) {
    const toggles = all(`.toggle-${layer}`);
    for (const toggle of toggles) {
      toggle.addEventListener("change", () => {
        toggles.forEach((other) => (other.checked = toggle.checked));
        document.body.classList.toggle(`no-${layer}`, !toggle.checked);
      });
    }
  }

  // One image, large.
  const viewer = find("#viewer");
  let open = null;
  const cells = (...texts) => {
    const line = document.createElement("tr");
    for (const text of texts) line.insertCell().textContent = text;
    return line;
  };
  const viewable = () => listed.filter((row) => row.readable);

  function view(row) {
    open = row;
    show(row);
    find("#viewer-name bdi").textContent = row.name;
    const frame = find(".frame", row.element).cloneNode(true);
    find("img", frame).alt = row.name;
    const box = find(".boxes", frame).viewBox.baseVal;
    // As large as fits, without changing its proportions.
    frame.style.setProperty("--ratio", box.width / box.height);
    find(".stage", viewer).replaceChildren(frame);
    const facts = all("td[data-label]", row.element).map((cell) => {
      const line = document.createElement("div");
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = cell.dataset.label;
      value.append(...[...cell.childNodes].map((node) => node.cloneNode(true)));
      line.append(term, value);
      return line;
    });
    find("#viewer-facts").replaceChildren(...facts);
    const regions = all("rect", frame).map((rect) => {
      const { x, y, width, height } = rect;
      const [left, top, w, h] = [x, y, width, height].map((length) => length.baseVal.value);
      return cells(`${top} to ${top + h}`, `${left} to ${left + w}`, rect.dataset.area,
        Number(rect.dataset.peak).toPrecision(3).replace("-", MINUS));
    });
    find("#viewer-regions").hidden = regions.length === 0;
    find("#viewer-regions tbody").replaceChildren(...regions);
    const more = row.regions - regions.length;
    find("#viewer-more").textContent = more > 0 ? `And ${more} with lower peaks.` : "";
    const shown = viewable();
    const place = shown.indexOf(row);
    find("#position").textContent = `${place + 1} of ${shown.length}`;
    find("#previous").disabled = place <= 0;
    find("#next").disabled = place === shown.length - 1;
    if (!viewer.open) viewer.showModal();
  }
  function go(by) {
    const shown = viewable();
    const row = shown[shown.indexOf(open) + by];
    if (row) view(row);
  }
  body.addEventListener("click", (event) => {
    const button = event.target.closest(".open");
    if (button) view(byElement.get(button.closest("tr")));
  });
  find("#close").addEventListener("click", () => viewer.close());
  find("#previous").addEventListener("click", () => go(-1));
  find("#next").addEventListener("click", () => go(1));
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close(); // beside the dialog
  });
  viewer.addEventListener("close", () => {
    if (open.element.hidden) filter(listed.indexOf(open) + BATCH);
    find(".open", open.element).focus();
  });

  all(".controls").forEach((element) => (element.hidden = false));
  judge();
  if (slider) {
    slider.hidden = false;
    moveThreshold(detectors, null);
  } else {
    filter();
  }
})();
