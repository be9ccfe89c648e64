/** The lists on the screen. */
import { colourOf, initialsOf } from "./people.js";

const times = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** @param choose called with the entry that the operator clicks */
export function showInbox(entries, openCustomer, choose) {
  document.querySelector("#inbox").replaceChildren(
    ...entries.map((entry) => {
      const { customer, name, from, text, at, isWaiting } = entry;
      const face = element("span", "face", initialsOf(name));
      face.style.setProperty("--colour", colourOf(name));
      const line = element("span", "line", from === "operator" ? `Reply: ${text}` : text);
      const button = element("button", "entry", face, element("strong", "", name), time(at), line);
      button.type = "button";
      button.classList.toggle("open", customer === openCustomer);
      button.classList.toggle("waiting", isWaiting);
      button.onclick = () => choose(entry);
      return element("li", "", button);
    }),
  );
}

export function showMessages(messages) {
  const list = document.querySelector("#messages");
  list.replaceChildren(
    ...messages.map(({ from, by, text, at, status }) => {
      const foot = element("footer", "", from === "operator" ? `${by} · ` : "", time(at));
      if (status) foot.append(" · ", element("span", "status", status));
      return element("li", from, element("p", "", text), foot);
    }),
  );
  list.scrollTop = list.scrollHeight;
}

function time(at) {
  return element("time", "", times.format(at));
}

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}
