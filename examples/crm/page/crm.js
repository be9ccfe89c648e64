/**
 * The page of a user of the CRM. What it shows comes from the service's own API; after that each change comes over the websocket, whoever made it, also
 * where somebody wrote it to the database by hand.
 */
import { connect } from "/tidegate.js";
import { notify, showState } from "./demo.js";
import { myName } from "./people.js";

const stages = ["lead", "offer", "won"];
const account = new URLSearchParams(location.search).get("account") ?? "aurora";
const api = `/api/accounts/${encodeURIComponent(account)}`;
const me = myName();
/** By id. */
const deals = new Map();

document.querySelector("#account").textContent = `${me} · account ${account}`;

async function ask(method, path, body) {
  const headers = body && { "content-type": "application/json" };
  const response = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
  const answer = response.status === 204 ? undefined : await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

/** What the user does. The page shows it once it comes back as a change. */
async function act(...request) {
  try {
    await ask(...request);
  } catch (error) {
    notify(`Not done: ${error.message}`);
  }
}

const session = async () => ask("GET", `/session?user=${encodeURIComponent(me)}`);
const { gateway } = await session();
const client = connect({ url: gateway, token: async () => (await session()).token });
client.onState(showState);
const channel = client.channel(`account:${account}`);
for (const event of ["deal.created", "deal.updated"]) channel.on(event, (deal) => take(deal));
channel.onResync(load);
await channel.subscribe();
await load();

/** After the subscription: what changes meanwhile comes as a change, and the newer version wins. */
async function load() {
  for (const deal of await ask("GET", "/deals")) take(deal);
}

function take(deal) {
  if ((deals.get(deal.id)?.version ?? 0) >= deal.version) return;
  deals.set(deal.id, deal);
  show(deal.id);
}

function show(changed) {
  const all = [...deals.values()].sort((a, b) => b.id - a.id);
  document.querySelector("#deals").replaceChildren(...all.map((deal) => rowOf(deal, deal.id === changed)));
  for (const select of document.querySelectorAll("#transfer select")) {
    const chosen = select.value;
    select.replaceChildren(...all.map(({ id, name }) => new Option(name, id, false, String(id) === chosen)));
  }
}

function rowOf(deal, isChanged) {
  const row = document.createElement("tr");
  row.dataset.deal = deal.name;
  row.classList.toggle("changed", isChanged);
  const stage = document.createElement("select");
  stage.ariaLabel = `Stage of ${deal.name}`;
  stage.append(...stages.map((each) => new Option(each, each, false, each === deal.stage)));
  stage.onchange = () => act("PATCH", `/deals/${deal.id}`, { stage: stage.value });
  for (const content of [deal.name, stage, deal.amount.toLocaleString("en")]) row.insertCell().append(content);
  row.lastChild.className = "number";
  return row;
}

document.querySelector("#add").onsubmit = (event) => {
  event.preventDefault();
  const { name, amount } = event.target.elements;
  act("POST", "/deals", { name: name.value.trim(), amount: Number(amount.value) });
  name.value = "";
};

document.querySelector("#transfer").onsubmit = (event) => {
  event.preventDefault();
  const { amount, from, to } = event.target.elements;
  act("POST", "/transfers", { amount: Number(amount.value), from: Number(from.value), to: Number(to.value) });
};
