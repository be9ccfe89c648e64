/** Debian's Chromium, without a window. */
import { type Browser, chromium } from "playwright-core";

const options = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Names that are not of this machine, for what differs on loopback.
  "--host-resolver-rules=MAP *.test 127.0.0.1",
];

/** The caller closes it. */
export async function launchChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: options });
}
