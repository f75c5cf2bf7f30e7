"use strict";
// Decisions about clips, by mouse, finger or key. They stay in this browser and leave it as a CSV that it saves.
(() => {
  const bar = document.getElementById("review");
  if (!bar) return;
  // columns: of the CSV; file: its name; store: where the choices stay; multi_label; labels; earlier: decisions of a run
  const page = JSON.parse(bar.dataset.page);
  const cards = [...document.querySelectorAll("article[data-clip]")];
  const status = document.getElementById("review-status");
  const clips = new Map(); // by key; those of earlier decisions too, which need not be shown
  const choices = new Map(); // by key: {decision, new_label}
  const keyOf = (clip) => clip.sha256 + "\n" + clip.label;

  // ---- what stays in the browser. Where it keeps nothing (a private window, a full disk), the page works until it is closed.
  let keeps = true;
  const stored = (() => {
    try {
      const found = JSON.parse(localStorage.getItem(page.store) || "{}");
      return found && typeof found === "object" ? found : {};
    } catch {
      keeps = false;
      return {};
    }
  })();
  function store(key, choice) {
    stored[key] = choice;
    try {
      localStorage.setItem(page.store, JSON.stringify(stored));
    } catch {
      keeps = false;
    }
  }

  // ---- choices
  const isChoice = (one) => one && ["keep", "drop", "relabel"].includes(one.decision) && typeof one.new_label === "string";
  for (const one of page.earlier) {
    clips.set(keyOf(one), one);
    choices.set(keyOf(one), { decision: one.decision, new_label: one.new_label });
  }
  for (const card of cards) {
    const clip = JSON.parse(card.dataset.clip);
    card.key = keyOf(clip);
    clips.set(card.key, clip);
  }
  for (const [key, one] of Object.entries(stored)) {
    if (!clips.has(key)) continue; // of another run
    if (isChoice(one)) choices.set(key, one);
    else choices.delete(key);
  }

  function decide(card, decision, new_label) {
    const was = choices.get(card.key);
    const same = was && was.decision === decision && was.new_label === new_label;
    if (!decision || same) {
      choices.delete(card.key);
      store(card.key, null);
    } else {
      choices.set(card.key, { decision, new_label });
      store(card.key, choices.get(card.key));
    }
    show(card);
    tell();
  }

  // A list of labels as the CSV has it, or null where one is unknown.
  function labelsOf(text) {
    const parts = [...new Set(text.split(";").map((part) => part.trim()).filter(Boolean))];
    return parts.length && parts.every((part) => page.labels.includes(part)) ? parts.join(";") : null;
  }

  function relabel(card, field) {
    if (!field.value.trim()) return decide(card, "", "");
    const label = labelsOf(field.value);
    field.setCustomValidity(label === null ? "no such label" : "");
    if (label === null) return tell(`No label "${field.value}". Several labels are joined by ;`);
    const was = choices.get(card.key);
    if (!was || was.new_label !== label) decide(card, "relabel", label);
  }

  // ---- what is shown
  function show(card) {
    const choice = choices.get(card.key) || { decision: "", new_label: "" };
    card.dataset.decided = choice.decision;
    for (const button of card.querySelectorAll("button[data-decision]"))
      button.setAttribute("aria-pressed", String(button.dataset.decision === choice.decision));
    const field = card.querySelector(".new-label");
    field.value = choice.new_label;
    field.setCustomValidity("");
  }

  function tell(more) {
    const parts = [`${choices.size} decided`];
    if (!keeps) parts.push("this browser keeps nothing, so save before you close the page");
    status.textContent = more || parts.join("; ");
    document.getElementById("review-save").disabled = !choices.size;
  }

  // ---- the CSV
  const cell = (text) => (/[",\r\n]/.test(text) || text.trim() !== text ? `"${text.replaceAll('"', '""')}"` : text);
  function rows() {
    const found = [];
    for (const [key, choice] of choices) {
      const clip = clips.get(key);
      if (page.columns.includes("decision")) found.push({ ...clip, ...choice });
      else if (choice.decision !== "drop") found.push({ path: clip.path, label: choice.new_label || clip.label });
    }
    return found.map((row) => page.columns.map((name) => cell(row[name])).join(","));
  }
  function save() {
    const text = [page.columns.join(","), ...rows(), ""].join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = page.file;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    tell(`${choices.size} decided, saved as ${page.file}`);
  }
  function clear() {
    if (!confirm(`Forget all ${choices.size} decisions?`)) return;
    for (const key of [...choices.keys()]) {
      choices.delete(key);
      store(key, null);
    }
    cards.forEach(show);
    tell();
  }

  // ---- keys: of the card that has the focus; where none has it, of the first
  const current = () => document.activeElement.closest("article[data-clip]");
  function go(step) {
    const at = cards.indexOf(current());
    const next = cards[at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + step))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
  function press(card, decision) {
    const button = card.querySelector(`button[data-decision="${decision}"]`);
    if (button) decide(card, decision, "");
    return Boolean(button);
  }
  function listen(card) {
    const player = card.querySelector("audio");
    if (!player) return;
    for (const other of document.querySelectorAll("audio")) if (other !== player) other.pause();
    if (player.paused) player.play().catch(() => tell("This clip cannot be played"));
    else player.pause();
  }
  const keys = {
    k: (card) => press(card, "keep") && choices.has(card.key) && go(1),
    d: (card) => press(card, "drop") && choices.has(card.key) && go(1),
    r: (card) => card.querySelector(".new-label").focus(),
    l: listen,
    n: () => go(1),
    p: () => go(-1),
  };
  document.addEventListener("keydown", (event) => {
    const act = keys[event.key.toLowerCase()];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest("select, input, textarea")) return;
    const card = current();
    event.preventDefault();
    if (card || "np".includes(event.key.toLowerCase())) act(card);
    else go(0);
  });

  // ---- start
  for (const card of cards) {
    const field = card.querySelector(".new-label");
    if (field.tagName === "SELECT")
      for (const label of page.labels) field.add(new Option(label, label));
    field.addEventListener("change", () => relabel(card, field));
    for (const button of card.querySelectorAll("button[data-decision]"))
      button.addEventListener("click", () => decide(card, button.dataset.decision, ""));
    show(card);
  }
  document.getElementById("review-save").addEventListener("click", save);
  document.getElementById("review-clear").addEventListener("click", clear);
  document.documentElement.classList.add("scripted");
  tell();
})();
