import type { CacheHolder } from "../../domain/session-api.ts";

/** The cache of a kernel that is mounted only after the session was opened: until then it has nothing to forget. */
export class LateCache implements CacheHolder {
  #cache: CacheHolder | undefined;

  /** From now on it may have something. */
  attach(cache: CacheHolder): void {
    this.#cache = cache;
  }

  tell(...news: Parameters<CacheHolder["tell"]>): ReturnType<CacheHolder["tell"]> {
    return this.#cache?.tell(...news);
  }
}
