/**
 * The operator's page. It follows the inbox of its Facebook page and the channel of the open conversation. It shows what
 * their histories hold, so that a second window, or one that lost its connection, shows the same.
 */
import { connect } from "/tidegate.js";
import { Conversation } from "./conversation.js";
import { fetchToken, notify, showState } from "./demo.js";
import { follow } from "./follow.js";
import { Inbox } from "./inbox.js";
import { myName } from "./people.js";
import { showInbox, showMessages } from "./view.js";

const me = myName();
const form = document.querySelector("#reply");
const inbox = new Inbox();
/** The open conversation: the customer, its name, what was said, and a function that stops following. */
let open = null;

document.querySelector("#operator").textContent = me;
// A reply that is written without a connection waits for it.
const client = connect({ url: location.origin, token: () => fetchToken(me), offline: { maxCalls: 20 } });
client.onState(showState);
const pageId = await new Promise((resolve) => {
  // The tenant of the token is the Facebook page.
  client.onState((state) => state.status === "connected" && resolve(state.tenant));
});
follow(client.channel(`inbox:${pageId}`), ["conversation"], inbox, renderInbox);

function renderInbox() {
  showInbox(inbox.entries, open?.customer, openConversation);
}

function openConversation({ customer, name }) {
  if (open?.customer === customer) return;
  open?.stop();
  const conversation = new Conversation();
  const show = () => showMessages(conversation.messages);
  const events = ["message", "sent", "failed", "delivered"];
  open = { customer, conversation, show, stop: follow(client.channel(`chat:${customer}`), events, conversation, show) };
  document.querySelector("#customer").textContent = name;
  form.hidden = false;
  form.elements.text.focus();
  show();
  renderInbox();
}

form.onsubmit = async (event) => {
  event.preventDefault();
  const { text: field } = form.elements;
  const text = field.value.trim();
  if (text === "") return;
  field.value = "";
  const { customer, conversation, show } = open;
  const draft = `${Date.now()}-${Math.random()}`;
  conversation.addDraft({ draft, text, by: me });
  show();
  try {
    // Every try has the same id: the reply is stored once. The ack says that it is stored, not that it is sent.
    await client.call("reply", { customer, text, draft }, { id: draft, repeat: true });
    conversation.confirmDraft(draft);
  } catch (error) {
    conversation.removeDraft(draft);
    notify(`"${text}" was not sent: ${error.message}`);
  }
  if (open.conversation === conversation) show();
};
