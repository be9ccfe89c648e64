/** The resources that a node can run out of. */
export const dimensionNames = ["connections", "eventLoop", "cpu", "delay", "memory", "outbound", "admissions"] as const;
export type Dimension = (typeof dimensionNames)[number];

/** Used ÷ allowed; 1.0 is at target. */
export type Dimensions = Readonly<Record<Dimension, number>>;
