/** What both ends of a session hold each other to. */

/** Protocol versions that this program speaks. */
export const VERSION_MIN = 1;
export const VERSION_MAX = 1;

/** Calls of a session that are unanswered, or whose answers may not have arrived. More than a kernel asks at once (128 in the background and one for each waiting thread). */
export const CALLS_MAX = 4096;

/** Largest message either way: a write or read of 1 MiB and its fields; a listing of 1 MiB of names with their attributes. Foreign messages above it are refused unread. */
export const SESSION_MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

/** Answers waiting to be taken by a slow reader: above this its calls are not read any more until it has caught up. */
export const UNREAD_BYTES_MAX = 16 * 1024 * 1024;

/** News not acknowledged by one gateway. Beyond it the gateway is cut off until nothing it was told is good any more (its lease has run out). */
export const NEWS_MAX = 65_536;

/** A stream that has not said what it wants by then is closed. */
export const HELLO_TIMEOUT_MS = 10_000;

/** A gateway that hears nothing on a new stream for so long tries another: the network may be whole by now, and TCP would find that out much later. */
export const WELCOME_TIMEOUT_MS = 4_000;

/** Pings in one lease: two may be lost or late. */
export const PINGS_PER_LEASE = 3;
