/** Of every service of a load scenario. */
export const serviceSecret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
