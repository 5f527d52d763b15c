// The page: uploads one file after the other, asks for the list while something is under way, and shows it.
"use strict";

const FAST_MS = 700, SLOW_MS = 8000, API = "/api/v1";
const $ = (id) => document.getElementById(id);
const rows = new Map();          // id -> the elements of a video
const known = new Map();         // id -> last seen state, to say aloud what is new
let limitBytes = 200e6, waiting = [], sending = false, timer = 0;

const percent = (p) => (p < 0.01 ? "under 1\u00a0%" : p > 0.99 ? "over 99\u00a0%" : `${Math.round(p * 100)}\u00a0%`);
const span = ([low, high]) => (percent(low) === percent(high) ? percent(low) : `${percent(low)} to ${percent(high)}`);
const size = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(n / 1e3))} kB`);
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const hours = (s) => (s >= 5400 ? plural(Math.round(s / 3600), "hour") : plural(Math.max(1, Math.round(s / 60)), "minute"));

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function say(text) {
  $("said").textContent = text;
}

// -- uploading ---------------------------------------------------------------------------------------------------------------
function enqueue(files) {
  for (const file of files) {
    const row = card(file.name, $("uploads"));
    row.meta.textContent = `${size(file.size)} · waiting to be uploaded`;
    const upload = { file, row, request: null, gone: false };
    row.cancel = action(row, "Cancel", () => {
      upload.gone = true;
      if (upload.request) upload.request.abort();
      row.item.remove();
      tidy();
    });
    if (file.size > limitBytes) {
      refuse(upload, `larger than ${size(limitBytes)}`);
    } else if (file.size === 0) {
      refuse(upload, "the file is empty");
    } else {
      waiting.push(upload);
    }
  }
  tidy();
  next();
}

function refuse(upload, why) {
  upload.gone = true;
  upload.row.item.classList.add("failed");
  upload.row.progress.hidden = true;
  upload.row.meta.textContent = `Not uploaded: ${why}`;
  upload.row.cancel.textContent = "Dismiss";
  say(`${upload.file.name} was not uploaded: ${why}`);
}

function next() {
  if (sending) return;
  const upload = waiting.shift();
  if (!upload) return;
  if (upload.gone) return next();
  sending = true;
  const request = (upload.request = new XMLHttpRequest());
  const finish = (after) => { sending = false; after(); next(); };
  request.open("POST", `${API}/videos?name=${encodeURIComponent(upload.file.name)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.responseType = "json";
  upload.row.progress.hidden = false;
  upload.row.progress.value = 0;
  request.upload.onprogress = (e) => {
    if (!e.lengthComputable) return;
    upload.row.progress.value = e.loaded / e.total;
    upload.row.meta.textContent = `Uploading: ${size(e.loaded)} of ${size(e.total)}`;
  };
  request.onload = () => finish(() => {
    if (request.status === 202) {
      upload.row.item.remove();
      say(`${upload.file.name} is uploaded`);
      refresh();
    } else {
      const detail = request.response && request.response.detail;
      refuse(upload, typeof detail === "string" ? detail : `the server said ${request.status}`);
    }
  });
  // A server that refuses in the middle of a body closes the connection, which browsers report as an error.
  request.onerror = () => finish(() => refuse(upload, "the connection was closed (neither a video nor a picture, too large, or the server stopped)"));
  request.onabort = () => finish(() => {});
  request.send(upload.file);
}

// The server fetches it; there is nothing to show of how far it is.
async function fetchAddress(url) {
  const row = card(url, $("uploads")), upload = { file: { name: url }, row };
  row.meta.textContent = "The server is fetching it…";
  row.progress.hidden = false;
  row.progress.removeAttribute("value");
  row.cancel = action(row, "Dismiss", () => { row.item.remove(); tidy(); });
  tidy();
  try {
    const answer = await fetch(`${API}/videos/from-url?url=${encodeURIComponent(url)}`, { method: "POST" });
    if (answer.status === 202) {
      row.item.remove();
      say(`${url} is here`);
      return refresh();
    }
    const { detail } = await answer.json().catch(() => ({}));
    refuse(upload, typeof detail === "string" ? detail : `the server said ${answer.status}`);
  } catch {
    refuse(upload, "the connection was closed");
  }
}

// -- the list ----------------------------------------------------------------------------------------------------------------
function card(name, list) {
  const item = element("li", "video"), top = element("div", "top");
  const row = { item, title: element("h3", "", name), badge: element("span", "badge"), text: element("p"), meta: element("p", "meta"),
                progress: element("progress"), actions: element("div", "actions") };
  row.badge.hidden = true;
  row.text.hidden = true;
  row.progress.max = 1;
  row.progress.hidden = true;
  row.progress.setAttribute("aria-label", `Progress of ${name}`);
  top.append(row.title, row.badge);
  item.append(top, row.text, row.meta, row.progress, row.actions);
  list.append(item);
  return row;
}

function action(row, label, act) {
  const button = element("button", "", label);
  button.type = "button";
  button.addEventListener("click", act);
  button.setAttribute("aria-label", `${label}: ${row.title.textContent}`);
  row.actions.append(button);
  return button;
}

function link(row, label, address, main) {
  const a = element("a", main ? "button main" : "button", label);
  a.href = address;
  a.target = "_blank";
  a.rel = "noopener";
  a.setAttribute("aria-label", `${label}: ${row.title.textContent}`);
  row.actions.insertBefore(a, row.remove || null);
  return a;
}

function deleteButton(row, id) {
  // Deleting cannot be undone: the button asks once, by itself, without a dialog.
  let sure = 0;
  const button = action(row, "Delete", async () => {
    if (!sure) {
      button.textContent = "Really delete?";
      button.classList.add("sure");
      sure = setTimeout(calm, 4000);
      return;
    }
    clearTimeout(sure);
    button.disabled = true;
    try {
      const answer = await fetch(`${API}/videos/${id}`, { method: "DELETE" });
      if (answer.ok || answer.status === 404) {
        say(`${row.title.textContent} is deleted`);
        forget(id);
        $("choose").focus();
      } else {
        calm();
      }
    } catch {
      calm();
    }
    button.disabled = false;
    refresh();
  });
  function calm() {
    sure = 0;
    button.textContent = "Delete";
    button.classList.remove("sure");
  }
  button.addEventListener("blur", () => { clearTimeout(sure); calm(); });
  return button;
}

function show(video) {
  let row = rows.get(video.id);
  if (!row) {
    row = card(video.name, $("list"));
    row.item.dataset.id = video.id;
    row.remove = deleteButton(row, video.id);
    rows.set(video.id, row);
  }
  if (row.state === video.state && video.state !== "queued" && video.state !== "running") return;
  row.state = video.state;
  row.item.dataset.state = video.state;
  const active = video.state === "queued" || video.state === "running";
  row.progress.hidden = !active;
  if (video.state === "queued") {
    row.progress.value = 0;
    setText(row.meta, video.ahead ? `Waiting, ${plural(video.ahead, "video")} before it` : "Waiting for its turn");
  } else if (video.state === "running") {
    row.progress.value = Math.max(video.share, 0.03);
    const stage = `${video.stage[0].toUpperCase()}${video.stage.slice(1)}…`;
    setText(row.meta, video.result ? `${facts(video.result)} · ${stage}` : stage);
    if (video.result) {
      verdict(row, video.result);
      row.item.dataset.early = "yes";
      if (!row.told) say(`${video.name}: ${video.result.verdict}; its report is being made`);
      row.told = true;
    }
  } else {
    finished(row, video);
  }
}

const HEADLINES = {
  "FAKE": "A face in this video was probably altered.",
  "REAL": "No trace of an altered face was found.",
  "UNSURE": "The detector cannot tell whether a face was altered.",
  "NO FACE": "No face was found, so there is nothing to judge.",
};

function finished(row, video) {
  const r = video.result;
  if (video.state === "failed") {
    row.item.classList.add("failed");
    row.text.hidden = false;
    const [, what, hint] = /^(.*?)(?: \(hint: (.*)\))?$/s.exec((r && r.error) || "it could not be judged");
    row.text.textContent = `No verdict: ${what}.${hint ? ` Try: ${hint}.` : ""}`;
    row.meta.textContent = size(video.bytes);
    return;
  }
  verdict(row, r);
  row.meta.textContent = `${facts(r)} · ${r.seconds.toFixed(1)} s`;
  if (video.report) {
    link(row, "Report", video.report, true);
    link(row, "Save report", `${video.report}?download=true`);
    link(row, "JSON", `${video.report}.json`);
  }
}

function verdict(row, r) {
  row.item.classList.add(r.verdict.toLowerCase().replace(" ", "-"));
  row.badge.hidden = false;
  setText(row.badge, r.verdict);
  row.text.hidden = false;
  const still = r.file && r.file.still;
  const headline = still ? HEADLINES[r.verdict].replace("this video", "this picture") : HEADLINES[r.verdict];
  setText(row.text, [headline, still && "A single picture is weaker evidence than a video.", r.reason && `${r.reason[0].toUpperCase()}${r.reason.slice(1)}.`, r.note && `Note: ${r.note}.`].filter(Boolean).join(" "));
}

function facts(r) {
  const parts = [];
  if (r.p_fake !== null) {
    parts.push(`Fake probability ${percent(r.p_fake)}` + (r.frame_range ? ` (single frames ${span(r.frame_range)})` : r.interval ? ` (${span(r.interval)} where frames are resampled)` : ""));
    parts.push(plural(r.people.length, "person").replace("persons", "people"));
  }
  if (!r.file || !r.file.still) parts.push(`${r.frames_with_face} of ${plural(r.frames_decoded, "frame")} with a face`);
  return parts.join(" · ");
}

function forget(id) {
  const row = rows.get(id);
  if (row) row.item.remove();
  rows.delete(id);
  known.delete(id);
  tidy();
}

function tidy() {
  $("empty").hidden = rows.size > 0 || $("uploads").children.length > 0;
  $("filter").hidden = rows.size < 2;
  // What is typed narrows the list; what is under way stays.
  const name = $("find").value.trim().toLowerCase(), which = $("which").value;
  let shown = 0;
  for (const row of rows.values()) {
    const fits = row.title.textContent.toLowerCase().includes(name) && (!which || row.item.classList.contains(which));
    row.item.hidden = !$("filter").hidden && !fits;
    shown += !row.item.hidden;
  }
  setText($("count"), $("filter").hidden || shown === rows.size ? "" : `${shown} of ${rows.size} shown`);
}

async function refresh() {
  clearTimeout(timer);
  let active = false;
  try {
    const answer = await fetch(`${API}/videos?limit=1000`);
    if (answer.status === 401) return location.reload();      // the session ended: the page asks for the token
    if (!answer.ok) throw new Error(answer.status);
    const videos = await answer.json();
    const list = $("list");
    videos.forEach((video, at) => {
      show(video);
      const item = rows.get(video.id).item;
      if (list.children[at] !== item) list.insertBefore(item, list.children[at] || null);
      if (known.has(video.id) && known.get(video.id) !== video.state && video.state === "done") say(`${video.name}: ${video.result.verdict}`);
      if (known.has(video.id) && known.get(video.id) !== video.state && video.state === "failed") say(`${video.name}: no verdict`);
      known.set(video.id, video.state);
      active ||= video.state === "queued" || video.state === "running";
    });
    const here = new Set(videos.map((v) => v.id));
    for (const id of [...rows.keys()]) if (!here.has(id)) forget(id);
    $("offline").hidden = true;
    tidy();
  } catch {
    $("offline").hidden = false;
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, active || !$("offline").hidden ? FAST_MS : SLOW_MS);
}

async function about() {
  try {
    const health = await (await fetch(`${API}/health`)).json();
    $("logout").hidden = !health.token;
    $("address").hidden = !health.urls;
    limitBytes = health.limit_bytes;
    $("terms").textContent = `Up to ${Math.round(limitBytes / 1e6)} MB each. The video stays on this server, is deleted as soon as it has its verdict, ` +
                             `and the report ${hours(health.keep_seconds)} later.`;
    $("about").textContent = `Model ${health.model}. Program version ${health.version}.`;
  } catch {
    setTimeout(about, 2000);
  }
}

// -- dropping ----------------------------------------------------------------------------------------------------------------
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { enqueue($("file").files); $("file").value = ""; });
const drop = $("drop");
let inside = 0;
const holdsFiles = (e) => e.dataTransfer && [...e.dataTransfer.types].includes("Files");
// The whole window takes the drop: a video dropped beside the box must not replace the page.
addEventListener("dragenter", (e) => { if (holdsFiles(e)) { e.preventDefault(); inside++; drop.classList.add("over"); } });
addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); if (!inside) drop.classList.remove("over"); });
addEventListener("dragover", (e) => { if (holdsFiles(e)) e.preventDefault(); });
addEventListener("drop", (e) => {
  if (!holdsFiles(e)) return;
  e.preventDefault();
  inside = 0;
  drop.classList.remove("over");
  enqueue(e.dataTransfer.files);
});
$("address").addEventListener("submit", (e) => {
  e.preventDefault();
  fetchAddress($("url").value.trim());
  $("url").value = "";
});
$("find").addEventListener("input", tidy);
$("which").addEventListener("change", tidy);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

about();
refresh();
