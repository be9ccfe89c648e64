/** Parameters of the scenario, from the environment. Every one is bounded, so that a run always ends. */

function number(name, fallback, min, max) {
  const value = __ENV[name] ? Number(__ENV[name]) : fallback;
  if (!(value >= min && value <= max)) throw new Error(`${name} must be a number from ${min} to ${max}`);
  return value;
}

function required(name) {
  if (!__ENV[name]) throw new Error(`${name} is required`);
  return __ENV[name];
}

export const clients = number("CLIENTS", 500, 1, 20_000);
export const channels = number("CHANNELS", 5, 1, 1_000);
/** Publications per second, all channels together. */
export const rate = number("RATE", 20, 0.1, 2_000);
/** Publications that leave at the same moment; the rate stays the same. */
export const burst = number("BURST", 1, 1, 100);
export const rampSeconds = number("RAMP", 10, 0, 600);
/** Measured time, after the ramp. */
export const durationSeconds = number("DURATION", 20, 1, 600);
/** The longest wait, after the last publication, for what is still on its way. */
export const drainSeconds = number("DRAIN", 10, 2, 120);
/** Filler in the data of each publication. */
export const payloadBytes = number("PAYLOAD_BYTES", 64, 0, 60_000);
/** k6's JavaScript engines; the clients are spread over them. */
export const engines = Math.min(clients, number("ENGINES", 8, 1, 200));

export const urls = required("GATEWAY_URLS").split(",");
export const privateApi = required("PRIVATE_API_URL");
export const privateApiToken = required("PRIVATE_API_TOKEN");
export const jwtSecret = required("AUTH_JWT_SECRET");
/** Where to write the result as JSON instead of printing it. */
export const resultFile = __ENV.RESULT_FILE;
