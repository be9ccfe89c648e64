/** Topics of one hash tag. `answers`: to one process that asks. @param root begins all names of the deployment. */
export function inventoryTopics(root: string): { questions: string; answers: (asker: string) => string } {
  const tag = `${root}:{nodes}:inventory`;
  return { questions: `${tag}:questions`, answers: (asker) => `${tag}:answers:${asker}` };
}
