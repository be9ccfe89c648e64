/** For a service that runs by itself. @throws where the variable is not set */
export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`set ${name} in the environment`);
  return value;
}
