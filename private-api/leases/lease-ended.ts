/** Another process may hold the lease: nothing more is done under it. */
export class LeaseEnded extends Error {
  override readonly name = "LeaseEnded";

  constructor() {
    super("the lease has ended");
  }
}
