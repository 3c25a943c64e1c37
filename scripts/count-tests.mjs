// Prints "PASSED FAILED SKIPPED" of a vitest JSON report, for .ci/run. A report that is missing or broken counts as one failure.
import { readFileSync } from "node:fs";

const [file] = process.argv.slice(2);
try {
  const report = JSON.parse(readFileSync(file, "utf8"));
  // A file that can't even be loaded has no tests, but is a failed suite.
  const brokenFiles = report.testResults.filter(
    (result) => result.status === "failed" && result.assertionResults.length === 0,
  );
  const failed = report.numFailedTests + brokenFiles.length;
  console.log(report.numPassedTests, failed, report.numPendingTests + report.numTodoTests);
} catch (error) {
  console.error(`no report of the tests: ${error.message}`);
  console.log(0, 1, 0);
}
