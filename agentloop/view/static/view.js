// What the pages of `agentloop view` do by themselves: follow the run, take labels, listen to keys.
"use strict";
const body = document.body;
const EVERY = 2000; // milliseconds between two looks at a run
const SAYS = { 1: "good", 2: "bad", 3: "unsure", u: "" };

async function follow() {
  if (!document.hidden) {
    let counts = null;
    try {
      const query = new URLSearchParams({ run: body.dataset.run, grading: body.dataset.grading });
      const answer = await fetch("/live?" + query);
      if (answer.ok) counts = await answer.json();
    } catch { // the server was stopped: its pages stay readable, and it may come back
    }
    if (counts) tell(counts);
    document.getElementById("cut-off").hidden = counts !== null;
  }
  setTimeout(follow, EVERY);
}

function tell(counts) {
  for (const place of document.querySelectorAll("[data-count]")) {
    const value = counts[place.dataset.count];
    place.textContent = typeof value === "number" ? value.toLocaleString("en") : value;
  }
  const more = document.getElementById("more");
  const came = counts.settled - Number(body.dataset.settled);
  if (more && came > 0) {
    more.textContent = `${came.toLocaleString("en")} settled since: show`;
    more.href = location.pathname + location.search;
    more.hidden = false;
  }
}

let posted = Promise.resolve(); // one after the other: a level given before the word is blind

function post(box, said) {
  posted = posted.then(() => send(box, said));
}

async function send(box, said) {
  const label = {
    run: body.dataset.run,
    item: box.dataset.item,
    candidate: box.dataset.candidate,
    ...said,
  };
  const told = box.querySelector("[data-told]");
  try {
    const answer = await fetch("/label", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(label),
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    told.textContent = found.said ? `you said: ${found.said}` : "not labelled";
    for (const button of box.querySelectorAll("[aria-pressed]")) {
      button.setAttribute("aria-pressed", String(button.dataset.say === found.said));
    }
    if (said.said === "") { // taken back, its levels too
      for (const radio of box.querySelectorAll("input[type=radio]")) radio.checked = false;
    }
    box.querySelector("[data-seen]").hidden = found.blind;
    document.getElementById("machine").innerHTML = found.machine; // made of escaped text by our server
  } catch (error) {
    told.textContent = `not taken: ${error.message}`;
  }
}

function step(by) { // along the list, or on a story to the list's next one
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) {
    const listed = JSON.parse(sessionStorage.getItem("listed") || "[]");
    const here = listed.findIndex((link) => new URL(link, location).pathname === location.pathname);
    const next = here < 0 ? undefined : listed[here + by];
    if (next) location.assign(next);
    return;
  }
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)].focus();
}

function typing(target) {
  return target.matches("input:not([type=radio]), select, textarea");
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const box = document.querySelector("[data-label]");
  if (event.key === "j" || event.key === "k") {
    const link = document.querySelector(`[data-step=${event.key}]`);
    if (link) posted.then(() => link.click());
    else step(event.key === "j" ? 1 : -1);
  } else if (event.key === "/" && document.getElementById("text")) {
    event.preventDefault();
    document.getElementById("text").focus();
  } else if (box && Object.hasOwn(SAYS, event.key)) {
    post(box, { said: SAYS[event.key] });
  } else if (box && /^[a-z]$/.test(event.key)) {
    turnTo(box.querySelector(`[data-key=${event.key}]`));
  }
}

function turnTo(criterion) {
  if (!criterion) return;
  criterion.closest("details").open = true;
  (criterion.querySelector(":checked") || criterion.querySelector("input")).focus();
}

document.addEventListener("keydown", pressed);
for (const box of document.querySelectorAll("[data-label]")) {
  for (const button of box.querySelectorAll("[data-say]")) {
    button.addEventListener("click", () => post(box, { said: button.dataset.say }));
  }
  for (const set of box.querySelectorAll("[data-criterion]")) {
    set.addEventListener("change", (event) =>
      post(box, { criterion: set.dataset.criterion, level: event.target.value }));
  }
}
const links = [...document.querySelectorAll("[data-row]")].map((row) => row.getAttribute("href"));
if (links.length) sessionStorage.setItem("listed", JSON.stringify(links));
if (body.dataset.run !== undefined) follow();
