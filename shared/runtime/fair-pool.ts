/** Members of a pool by owner. When the pool is full, the oldest member of the owner with the most members is evicted. Pure. */
export class FairPool<Member> {
  readonly #owners = new Map<string, Set<Member>>();
  readonly #ownerOf = new Map<Member, string>();
  /** Owners by the number of their members. */
  readonly #bySize = new Map<number, Set<string>>();
  #largest = 0;

  get size(): number {
    return this.#ownerOf.size;
  }

  has(member: Member): boolean {
    return this.#ownerOf.has(member);
  }

  /** A member that is added again becomes the newest. */
  add(member: Member, owner: string): void {
    this.delete(member);
    const members = this.#owners.get(owner) ?? new Set();
    this.#owners.set(owner, members.add(member));
    this.#ownerOf.set(member, owner);
    this.#resized(owner, members.size - 1, members.size);
    this.#largest = Math.max(this.#largest, members.size);
  }

  delete(member: Member): void {
    const owner = this.#ownerOf.get(member);
    const members = owner === undefined ? undefined : this.#owners.get(owner);
    if (owner === undefined || !members) return;
    this.#ownerOf.delete(member);
    members.delete(member);
    if (members.size === 0) this.#owners.delete(owner);
    this.#resized(owner, members.size + 1, members.size);
    while (this.#largest > 0 && !this.#bySize.has(this.#largest)) this.#largest--;
  }

  /** The member to evict next; undefined in an empty pool. */
  get next(): Member | undefined {
    const [owner] = this.#bySize.get(this.#largest) ?? [];
    const [member] = (owner === undefined ? undefined : this.#owners.get(owner)) ?? [];
    return member;
  }

  #resized(owner: string, from: number, to: number): void {
    const before = this.#bySize.get(from);
    const onlyOwner = before?.size === 1 ? before : undefined;
    if (onlyOwner) this.#bySize.delete(from);
    else before?.delete(owner);
    if (to === 0) return;
    const after = this.#bySize.get(to);
    if (after) after.add(owner);
    // Kept, because doors add and delete with each request.
    else this.#bySize.set(to, onlyOwner ?? new Set([owner]));
  }
}
