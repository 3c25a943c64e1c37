/**
 * How long a kernel may take a name for absent after a lookup found nothing, in milliseconds from the moment the lookup was sent. Shorter than for what is there, since nobody keeps account of all
 * names that are not: what may be remembered somewhere is known only for so long, and must be told of when it comes to be.
 */
export const ABSENT_NAMES_MS = {
  /** While other caches may be told of changes: the names looked up within this time are kept in memory, so short. */
  shared: 1000,
  /** While there is no other cache. When one comes, every name counts as remembered for that long. Programs that search a path for their parts start often, so not too short. */
  alone: 10_000,
} as const;
