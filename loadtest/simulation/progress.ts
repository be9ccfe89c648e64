/** A progress line on stderr, updated in place; where stderr is no terminal, one line at the end. */
const everyMs = 200;
const bar = 30;

export function progressBar(
  title: string,
  clients: number,
): { show(second: number, connected: number): void; end(): void } {
  const startedAt = performance.now();
  let shownAt = 0;
  let line = "";
  return {
    show: (second, connected) => {
      const filled = Math.floor((connected / clients) * bar);
      const share = ((connected / clients) * 100).toFixed(1).padStart(5);
      line = `[${"#".repeat(filled)}${".".repeat(bar - filled)}] ${share} % connected, ${second} s simulated: ${title}`;
      const now = performance.now();
      if (!process.stderr.isTTY || now < shownAt + everyMs) return;
      shownAt = now;
      process.stderr.write(`\r\u001B[K${line}`);
    },
    end: () => {
      const tookSeconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
      process.stderr.write(`${process.stderr.isTTY ? "\r\u001B[K" : ""}${line} (took ${tookSeconds} s)\n`);
    },
  };
}
