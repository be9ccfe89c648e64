/**
 * The network that connections are counted by: an IPv4 address, or the /64 of an IPv6 address, the usual size for one customer.
 * The spelling of the address (capitals, zeros, `::`, IPv4 within IPv6, a zone) does not matter.
 */
export function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const [withoutZone = ""] = address.split("%");
  const host = URL.parse(`http://[${withoutZone}]`)?.hostname;
  if (host === undefined) return address;
  const groups = groupsOf(host.slice(1, -1));
  if (groups.slice(0, 6).join(":") === mappedPrefix) return dotted(groups[6] ?? "", groups[7] ?? "");
  return `${groups.slice(0, 4).join(":")}::/64`;
}

/** IPv4 addresses within IPv6: ::ffff:0:0/96. */
const mappedPrefix = "0:0:0:0:0:ffff";

/** @param address as URLs spell it: lower case, no leading zeros, no dots, the longest run of zeros as `::`. */
function groupsOf(address: string): string[] {
  const [head = [], tail = []] = address.split("::").map((part) => (part === "" ? [] : part.split(":")));
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => "0");
  return address.includes("::") ? [...head, ...zeros, ...tail] : head;
}

function dotted(high: string, low: string): string {
  return [high, low]
    .map((group) => Number.parseInt(group, 16))
    .flatMap((group) => [group >> 8, group & 0xff])
    .join(".");
}
