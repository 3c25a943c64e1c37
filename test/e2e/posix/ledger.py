"""Writers that keep account of what they were told: python3 ledger.py DIRECTORY (made if it is not there), then commands on standard input, each answered by a line "ok" or what is wrong.

Each writer appends numbered lines to a file of its own (an append that runs twice or is lost shows), and makes, renames and removes names, one after the other; any error is one too many.
"""
import os
import sys
import threading

PATIENCE_S = 60


class Writer(threading.Thread):
    def __init__(self, directory, number):
        super().__init__(daemon=True)
        self.base = os.path.join(directory, f"writer{number}")
        os.makedirs(self.base, exist_ok=True)
        self.steps = 0
        self.stopping = False
        self.failed = None

    def run(self):
        try:
            log = os.open(os.path.join(self.base, "log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            while not self.stopping:
                self.step(log)
                self.steps += 1
            os.fsync(log)
            os.close(log)
        except OSError as error:
            self.failed = f"step {self.steps}: {error}"

    def step(self, log):
        number = self.steps
        line = b"%d\n" % number
        wrote = os.write(log, line)
        if wrote != len(line):
            raise OSError(f"short write: {wrote}")
        name = os.path.join(self.base, f"name{number % 50}")
        os.close(os.open(name + ".new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.rename(name + ".new", name)
        if number % 7 == 0:
            os.unlink(name)
        if number % 20 == 0:
            os.mkdir(os.path.join(self.base, f"directory{number}"))
            os.rmdir(os.path.join(self.base, f"directory{number}"))

    def wrong(self, base):
        with open(os.path.join(base, "log"), "rb") as file:
            lines = file.read().splitlines()
        if lines != [b"%d" % number for number in range(self.steps)]:
            return f"{base}/log has {len(lines)} lines, {self.steps} were written: {lines[-3:]}"
        names = {f"name{number % 50}" for number in range(max(0, self.steps - 50), self.steps) if number % 7 != 0} | {"log"}
        if set(os.listdir(base)) != names:
            return f"{base} has other names: {sorted(set(os.listdir(base)) ^ names)}"
        return None


def main():
    directory = sys.argv[1]
    writers = []
    seen = []

    def failure():
        return next((writer.failed for writer in writers if writer.failed is not None), None)

    for line in sys.stdin:
        command, *words = line.split()
        problem = None
        if command == "start":
            writers = [Writer(directory, number) for number in range(int(words[0]))]
            seen = [0] * len(writers)
            for writer in writers:
                writer.start()
        elif command == "progress":
            # Everybody has got some steps further.
            for index, writer in enumerate(writers):
                waited = threading.Event()
                for _ in range(PATIENCE_S * 100):
                    if writer.failed is not None or writer.steps >= seen[index] + 20:
                        break
                    waited.wait(0.01)
                else:
                    problem = f"writer {index} hangs at step {writer.steps}"
                seen[index] = writer.steps
        elif command == "stop":
            for writer in writers:
                writer.stopping = True
            for writer in writers:
                writer.join(PATIENCE_S)
            problem = next((wrong for wrong in (writer.wrong(writer.base) for writer in writers) if wrong), None)
        elif command == "verify":
            problem = next(
                (wrong for wrong in (writer.wrong(os.path.join(words[0], os.path.basename(writer.base))) for writer in writers) if wrong), None
            )
        print(failure() or problem or "ok", flush=True)


main()
