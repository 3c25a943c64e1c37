import { existsSync } from "node:fs";

/** What some tests need of the machine. */
const REQUIREMENTS = {
  root: { met: () => process.getuid?.() === 0, without: "owners, devices and mounts can't be tested" },
  setfacl: { met: () => existsSync("/usr/bin/setfacl"), without: "no directory can be given a default ACL" },
  fuse: { met: () => existsSync("/dev/fuse"), without: "nothing can be mounted" },
} as const;

/** Whether a requirement is missing, for `test.skipIf`: prints why. In CI (CI is set) nothing is skipped: it throws. */
export function isMissing(requirement: keyof typeof REQUIREMENTS): boolean {
  const { met, without } = REQUIREMENTS[requirement];
  if (met()) return false;
  if ((process.env["CI"] ?? "") !== "") throw new Error(`${requirement} is missing: ${without}`);
  console.warn(`skipped, as ${requirement} is missing: ${without}`);
  return true;
}
