/** What can be wrong with an app's objects without hindering reading; each with what it means to a person. */
export const ANOMALY_CODES = {
  SEAL_MISSING: "a seal is missing between others",
  SEAL_PREVIOUS_MISSING: "the seal that an epoch went on from is missing",
  SEAL_FENCED_LATE:
    "a service wrote seals after another one had taken over: they are ignored, and were never reported as protected",
  SEAL_DAMAGED: "a seal does not open",
  LINE_RESTARTED: "a line of seals begins anew, with a base: the seals before are not part of it",
  EPOCH_MISSING: "there are seals of an epoch that nobody took",
  NAME_FOREIGN: "an object's name is none that Tidemark gives",
  CHECKPOINT_DAMAGED: "a checkpoint does not open",
  CHECKPOINT_OFF_LINE: "a checkpoint was written by a service that had been taken over from",
  CHECKPOINT_RUN_MISSING: "a run that a checkpoint names is missing or has another length",
} as const;

export type AnomalyCode = keyof typeof ANOMALY_CODES;

/** Something that somebody should know of. `object` is the name it is about. */
export type Anomaly = { readonly code: AnomalyCode; readonly object: string; readonly message: string };

/** Makes an anomaly; `detail` follows what its code means. */
export function anomaly(code: AnomalyCode, object: string, detail: string): Anomaly {
  return { code, object, message: `${object}: ${ANOMALY_CODES[code]} (${detail})` };
}
