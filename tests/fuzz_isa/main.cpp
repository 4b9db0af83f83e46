// The differential fuzzer: random instructions on the host's processor and on an engine, from the same state.
//
//   fuzz_isa [--engine interp] [--seed N] [--cases N | --seconds N] [--case N] [--failures N] [--coverage] [--verbose]
//
// Cases come in batches, numbered through; --case N runs the one with that number, within its batch, and shows what it
// does.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <set>
#include <thread>

#include "fuzz_isa/compare.h"
#include "fuzz_isa/coverage.h"
#include "fuzz_isa/generator.h"
#include "fuzz_isa/guest_processor.h"
#include "fuzz_isa/native_processor.h"
#include "fuzz_isa/values.h"

namespace doppel::fuzz_isa {
namespace {

struct Options {
  std::string engine = "interp";
  std::uint64_t seed = 1, cases = 0, seconds = 0, failures = 10;  // no cases: 100,000
  std::int64_t only_case = -1;
  bool coverage = false, verbose = false;
};

std::unique_ptr<engine::Engine> make_engine(const std::string& name) {
  if (name == "interp") return engine::make_interpreter();
  if (name == "dbt") return engine::make_translator().value();
  throw std::runtime_error("no engine " + name);
}

struct Batch {
  std::vector<Case> cases;
  std::vector<std::uint8_t> code;
  Memory memory{};
};

Batch make_batch(const Generator& generator, std::uint64_t seed, std::uint64_t number) {
  Batch batch;
  batch.code.assign(kCodeSize, kHlt);
  Random random(seed * 31 + number);
  batch.memory = memory(random);
  for (std::size_t i = 0; i < kBatch; ++i) {
    batch.cases.push_back(generator.make(seed, number * kBatch + i, i));
    std::uint64_t at = batch.cases.back().start.rip - kCodeBase;
    for (const Instruction& instruction : batch.cases.back().instructions)
      for (const std::uint8_t byte : instruction.bytes)
        if (at < kCodeSize) batch.code[at++] = byte;
  }
  return batch;
}

/// Ends a case that the engine does not end.
class Watchdog {
 public:
  explicit Watchdog(GuestProcessor& guest) : thread_([this, &guest] { watch(guest); }) {}
  ~Watchdog() {
    done_ = true;
    thread_.join();
  }
  /// To be called when a case begins, and when it has ended.
  void note() { ++notes_; }

 private:
  void watch(GuestProcessor& guest) {
    // Of processor time: the machine may have other things to do.
    constexpr std::clock_t kPatience = 2 * CLOCKS_PER_SEC;
    std::uint64_t last = 0;
    std::clock_t since = std::clock();
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      const std::uint64_t now = notes_;
      if (now != last || now % 2 == 0) since = std::clock();
      if (std::clock() - since > kPatience) guest.interrupt();
      last = now;
    }
  }

  std::atomic<std::uint64_t> notes_ = 0;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

class Fuzzer {
 public:
  explicit Fuzzer(const Options& options)
      : options_(options), guest_(make_engine(options.engine)), generator_(guest_.cpuid()) {}

  int run() {
    if (options_.only_case >= 0) {
      run_batch(static_cast<std::uint64_t>(options_.only_case) / kBatch);
    } else {
      const auto start = std::chrono::steady_clock::now();
      const auto goes_on = [&](std::uint64_t batch) {
        if (seen_.size() >= options_.failures) return false;
        if (options_.seconds == 0) return batch * kBatch < options_.cases;
        return std::chrono::steady_clock::now() - start < std::chrono::seconds(options_.seconds);
      };
      for (std::uint64_t batch = 0; goes_on(batch); ++batch) run_batch(batch);
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      if (options_.coverage) fmt::print("{}", coverage_.table());
      fmt::print("{}seed {}, engine {}: {} differences, {} cases without a verdict, {:.0f} s\n", coverage_.summary(),
                 options_.seed, options_.engine, failures_, unjudged_, elapsed.count());
    }
    return failures_ == 0 ? 0 : 1;
  }

 private:
  void run_batch(std::uint64_t number) {
    const Batch batch = make_batch(generator_, options_.seed, number);
    const auto native = native_.run(batch.cases, batch.code, batch.memory);
    guest_.prepare(batch.code, batch.memory);
    for (std::size_t i = 0; i < batch.cases.size(); ++i) {
      const std::uint64_t index = number * kBatch + i;
      const bool shown = options_.only_case == static_cast<std::int64_t>(index);
      if (options_.only_case >= 0 && !shown) continue;
      const Outcome::Kind kind = native[i].kind;
      if (kind == Outcome::Kind::NotRun || kind == Outcome::Kind::SystemCall) {
        ++unjudged_;
        if (kind == Outcome::Kind::NotRun && (i == 0 || native[i - 1].kind != kind))
          fmt::print("case {} ended the native side\n{}", index, describe(batch.cases[i]));
        continue;
      }
      if (options_.verbose) fmt::print(stderr, "{}\n", index);
      watchdog_.note();
      const Outcome guest = guest_.run(batch.cases[i].start);
      watchdog_.note();
      coverage_.count(batch.cases[i], native[i]);
      const std::string found = differences(batch.cases[i], native[i], guest);
      if (found.empty() && !shown) continue;
      if (!found.empty()) {
        ++failures_;
        // One of a kind is enough to read.
        const Case& made = batch.cases[i];
        const std::string kind =
            fmt::format("{} {} {}", made.instructions.back().mnemonic, native[i].vector, guest.vector);
        if (!shown && !seen_.insert(kind).second) continue;
      }
      fmt::print("--seed {} --case {}: vector {}\n{}{}", options_.seed, index, native[i].vector,
                 describe(batch.cases[i]), found);
      if (native[i].memory != guest.memory) show_memory(batch, i);
      std::fflush(stdout);
      if (seen_.size() >= options_.failures) return;
    }
  }

  void show_memory(const Batch& batch, std::size_t index) {
    const std::vector<std::uint8_t> mine(guest_.writable().begin(), guest_.writable().end());
    const auto native = native_.memory_after(batch.cases, index, batch.code, batch.memory);
    unsigned lines = 0;
    for (std::size_t i = 0; i < kWritableSize && lines < 16; ++i)
      if (native[i] != mine[i]) {
        fmt::print("  memory {:x}: native {:02x}, guest {:02x}\n", kDataBase + i, native[i], mine[i]);
        ++lines;
      }
  }

  Options options_;
  NativeProcessor native_;
  GuestProcessor guest_;
  Watchdog watchdog_{guest_};
  Generator generator_;
  Coverage coverage_;
  std::set<std::string> seen_;  ///< kinds of differences
  std::uint64_t failures_ = 0, unjudged_ = 0;
};

}  // namespace
}  // namespace doppel::fuzz_isa

// What ctest takes for "skipped".
constexpr int kSkipped = 77;

int main(int argc, char** argv) try {
  doppel::fuzz_isa::Options options;
  CLI::App app{"Executes random instructions on the host's processor and on an engine, and compares"};
  app.add_option("--engine", options.engine, "interp or dbt");
  app.add_option("--seed", options.seed);
  app.add_option("--cases", options.cases, "how many; default: 100000");
  app.add_option("--seconds", options.seconds, "how long, instead");
  app.add_option("--case", options.only_case, "only this one");
  app.add_option("--failures", options.failures, "after how many kinds of differences to stop");
  app.add_flag("--coverage", options.coverage, "print the table of what was reached");
  app.add_flag("--verbose", options.verbose, "print the number of each case before it, to find one that crashes");
  CLI11_PARSE(app, argc, argv);
  signal(SIGPIPE, SIG_IGN);  // the native side may end at any time
  if (const char* obstacle = doppel::fuzz_isa::NativeProcessor::obstacle()) {
    fmt::print("not possible here: {}\n", obstacle);
    return kSkipped;
  }
  if (options.cases == 0) options.cases = 100'000;
  return doppel::fuzz_isa::Fuzzer(options).run();
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
