/** What the customer's server has received, the newest first. */
const everyMs = 500;
const list = document.querySelector("ol");
const times = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

async function show() {
  try {
    const received = await (await fetch("./received")).json();
    list.replaceChildren(
      ...received.map(({ type, data, at }) => {
        const item = document.createElement("li");
        const head = document.createElement("strong");
        head.textContent = `✓ ${type} · ${times.format(at)}`;
        item.append(head, JSON.stringify(data));
        return item;
      }),
    );
  } catch {
    // The server restarts: the next look finds it.
  }
  setTimeout(show, everyMs);
}

show();
