/** The user's name, and a colour and initials for each name. */

const moods = [
  "Brisk",
  "Calm",
  "Clever",
  "Gentle",
  "Jolly",
  "Keen",
  "Lucky",
  "Merry",
  "Quiet",
  "Swift",
  "Tidy",
  "Witty",
];
const animals = [
  "Otter",
  "Heron",
  "Seal",
  "Puffin",
  "Crab",
  "Gull",
  "Plover",
  "Dolphin",
  "Limpet",
  "Tern",
  "Eel",
  "Whelk",
];

/** `?name=`, or a random name for the lifetime of this window, so that two windows are two people. */
export function myName() {
  const asked = new URLSearchParams(location.search).get("name")?.trim();
  const name = asked || sessionStorage.getItem("name") || `${pick(moods)} ${pick(animals)}`;
  sessionStorage.setItem("name", name);
  return name;
}

/** Each name has the same colour in every window. */
export function colourOf(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return `hsl(${(hash * 137) % 360} 68% 42%)`;
}

export function initialsOf(name) {
  const words = name.split(/\s+/).filter(Boolean);
  return words
    .slice(0, 2)
    .map((word) => [...word][0].toUpperCase())
    .join("");
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}
