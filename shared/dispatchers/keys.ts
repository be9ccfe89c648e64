/** Hash: instance → report. @param root begins all names of the deployment. */
export function dispatchersKey(root: string): string {
  return `${root}:{dispatchers}`;
}
