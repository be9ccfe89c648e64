/** The clock of the machine, also where a test stops or replaces `performance`. */
const now = performance.now.bind(performance);

/**
 * Waits until `condition` holds, looking again after each turn of the event loop.
 * For states that announce themselves nowhere; where there is an event, wait for that.
 * The default deadline only ends a wait that is in vain, on a machine that is busy besides. Give one where the time itself is
 * promised.
 */
export async function eventually(condition: () => boolean | Promise<boolean>, deadlineMs = 60_000): Promise<void> {
  const deadline = now() + deadlineMs;
  while (!(await condition())) {
    if (now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
