/** The customers of the simulator: each writes to the page and sees its replies. */

const questions = [
  "Is my order on its way?",
  "Do you ship to Norway?",
  "Can I change the size?",
  "Are you open today?",
];
const template = document.querySelector("template");
const list = document.querySelector("#customers");
/** By customer. */
const phones = new Map();
let asked = 0;

new EventSource("/events").onmessage = ({ data }) => {
  const { customers, webhooks } = JSON.parse(data);
  for (const figure of document.querySelectorAll("[data-figure]")) {
    figure.textContent = webhooks[figure.dataset.figure];
  }
  document.querySelector("#failure").textContent = webhooks.lastFailure && `last failure: ${webhooks.lastFailure}`;
  for (const customer of customers) show(customer);
};

document.querySelector("#everyone").onclick = () => {
  for (const id of phones.keys()) void write(id, questions[asked++ % questions.length]);
};

function show({ id, name, messages }) {
  const phone = phones.get(id) ?? add(id, name);
  const chat = phone.querySelector("ol");
  chat.replaceChildren(
    ...messages.map(({ from, text }) => {
      const item = document.createElement("li");
      item.className = from;
      item.textContent = text;
      return item;
    }),
  );
  chat.scrollTop = chat.scrollHeight;
}

function add(id, name) {
  const phone = list.appendChild(template.content.firstElementChild.cloneNode(true));
  const { text } = phone.querySelector("form").elements;
  phone.querySelector("h2").textContent = name;
  text.setAttribute("aria-label", `${name} writes`);
  phone.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    if (text.value.trim() !== "") void write(id, text.value);
    text.value = "";
  };
  phones.set(id, phone);
  return phone;
}

async function write(id, text) {
  await fetch(`/customers/${id}/messages`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ text }),
  });
}
