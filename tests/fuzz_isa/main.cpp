// The differential fuzzer: random instructions on the host's processor and on engines, from the same state.
//
//   fuzz_isa [--engine all|interp|dbt|direct] [--seed N] [--cases N | --seconds N] [--case N] [--failures N]
//            [--coverage] [--coverage-file F] [--verbose]
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
#include <memory>
#include <set>
#include <span>
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
  std::string engine = "all", coverage_file;
  std::uint64_t seed = 1, cases = 0, seconds = 0, failures = 10;  // no cases: 100,000
  std::int64_t only_case = -1;
  bool coverage = false, verbose = false;
};

std::unique_ptr<engine::Engine> make_engine(const std::string& name) {
  if (name == "interp") return engine::make_interpreter();
  engine::TranslatorOptions options;
  options.direct = name == "direct" ? engine::DirectExecution::Always : engine::DirectExecution::Never;
  if (name == "dbt" || name == "direct") return engine::make_translator(options).value();
  throw std::runtime_error("no engine " + name);
}

struct Batch {
  std::vector<Case> cases = std::vector<Case>(kBatch);
  std::vector<std::uint8_t> code;
  Memory memory{};
};

/// Puts a case's instructions where they belong, and behind them a jump to its way out.
void place(const Case& made, std::vector<std::uint8_t>& code) {
  std::uint64_t at = made.start.linear_rip();
  const auto put = [&code, &at](std::uint8_t byte) {
    if (at - kCodeBase < kCodeSize) code[at - kCodeBase] = byte;
    ++at;
  };
  for (const Instruction& instruction : made.instructions)
    for (unsigned i = 0; i < instruction.length; ++i) put(instruction.bytes[i]);
  const Mode mode = made.start.mode();
  if (mode == Mode::Bits64) {
    constexpr unsigned kLength = 5;
    const std::uint64_t distance = kWayOut - (at + kLength);
    put(0xE9);
    for (unsigned i = 0; i < 4; ++i) put(static_cast<std::uint8_t>(distance >> (8 * i)));
    return;
  }
  if (mode == Mode::Bits16) put(0x66);
  put(0xEA);
  constexpr std::uint64_t kFar = kWayOut | std::uint64_t{kUserCode64} << 32;
  for (unsigned i = 0; i < 6; ++i) put(static_cast<std::uint8_t>(kFar >> (8 * i)));
}

void make_batch(const Generator& generator, std::uint64_t seed, std::uint64_t number, Batch& batch) {
  batch.code.assign(kCodeSize, kHlt);
  Random random(seed * 31 + number);
  batch.memory = memory(random);
  for (std::size_t i = 0; i < kBatch; ++i) {
    generator.make(seed, number * kBatch + i, i, batch.cases[i]);
    place(batch.cases[i], batch.code);
  }
}

/// Ends a case that the engine does not end.
class Watchdog {
 public:
  Watchdog() : thread_([this] { watch(); }) {}
  ~Watchdog() {
    done_ = true;
    thread_.join();
  }
  void begin(GuestProcessor& guest) {
    running_ = &guest;
    ++notes_;
  }
  void end() { ++notes_; }

 private:
  void watch() {
    // Of processor time: the machine may have other things to do.
    constexpr std::clock_t kPatience = 2 * CLOCKS_PER_SEC;
    std::uint64_t last = 0;
    std::clock_t since = std::clock();
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      const std::uint64_t now = notes_;
      if (now != last || now % 2 == 0) since = std::clock();
      if (std::clock() - since > kPatience) running_.load()->interrupt();
      last = now;
    }
  }

  std::atomic<GuestProcessor*> running_ = nullptr;
  std::atomic<std::uint64_t> notes_ = 0;  ///< odd while a case runs
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

class Fuzzer {
 public:
  explicit Fuzzer(const Options& options) : options_(options) {
    for (const char* name : {"interp", "dbt", "direct"})
      if (options.engine == "all" || options.engine == name) sides_.emplace_back(name);
    if (sides_.empty()) throw std::runtime_error("no engine " + options.engine);
    generator_ = std::make_unique<Generator>(sides_.front().guest->cpuid());
  }

  int run() {
    if (options_.only_case >= 0) {
      run_batch(static_cast<std::uint64_t>(options_.only_case) / kBatch);
      return failures_ == 0 ? 0 : 1;
    }
    const auto start = std::chrono::steady_clock::now();
    const auto goes_on = [&](std::uint64_t batch) {
      if (seen_.size() >= options_.failures) return false;
      if (options_.seconds == 0) return batch * kBatch < options_.cases;
      return std::chrono::steady_clock::now() - start < std::chrono::seconds(options_.seconds);
    };
    for (std::uint64_t batch = 0; goes_on(batch); ++batch) run_batch(batch);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    fmt::print(
        "{}seed {}, engine {}: {} differences ({} others not reproduced, or met the native side's own memory), {} "
        "cases without a verdict, {:.0f} s\n",
        coverage_.summary(), options_.seed, options_.engine, failures_, passing_, unjudged_, elapsed.count());
    if (!options_.coverage_file.empty()) {
      if (coverage_.load(options_.coverage_file)) fmt::print("with what was reached before: {}", coverage_.summary());
      coverage_.save(options_.coverage_file);
    }
    if (options_.coverage) fmt::print("{}", coverage_.table(generator_->claims()));
    return failures_ == 0 ? 0 : 1;
  }

 private:
  /// An engine.
  struct Side {
    explicit Side(const char* of) : name(of), guest(std::make_unique<GuestProcessor>(make_engine(of))) {}
    std::string name;
    std::unique_ptr<GuestProcessor> guest;
  };

  void run_batch(std::uint64_t number) {
    make_batch(*generator_, options_.seed, number, batch_);
    // A difference makes the host's processor run the case again.
    const auto fresh = native_.run(batch_.cases, batch_.code, batch_.memory);
    native_outcomes_.assign(fresh.begin(), fresh.end());
    const std::vector<Outcome>& native = native_outcomes_;
    for (const Side& side : sides_) side.guest->prepare(batch_.code, batch_.memory);
    for (std::size_t i = 0; i < batch_.cases.size() && seen_.size() < options_.failures; ++i) {
      const std::uint64_t index = number * kBatch + i;
      const bool shown = options_.only_case == static_cast<std::int64_t>(index);
      if (options_.only_case >= 0 && !shown) continue;
      const Outcome::Kind kind = native[i].kind;
      if (kind == Outcome::Kind::NotRun || kind == Outcome::Kind::SystemCall) {
        ++unjudged_;
        if (kind == Outcome::Kind::NotRun && (i == 0 || native[i - 1].kind != kind))
          fmt::print("case {} ended the native side\n{}", index, describe(batch_.cases[i]));
        continue;
      }
      if (options_.verbose) fmt::print(stderr, "{}\n", index);
      coverage_.count(batch_.cases[i], native[i], static_cast<unsigned>(sides_.size()));
      for (Side& side : sides_) run_case(side, native[i], i, index, shown);
    }
  }

  void run_case(Side& side, const Outcome& first, std::size_t i, std::uint64_t index, bool shown) {
    const Case& made = batch_.cases[i];
    watchdog_.begin(*side.guest);
    const Outcome guest = side.guest->run(made.start);
    watchdog_.end();
    std::string found = differences(made, first, guest);
    if (found.empty() && !shown) return;
    if (!found.empty()) {
      // A signal may have come in between; it may have strayed into what belongs to another case; or the address is one
      // where the native side has memory of its own.
      std::vector<std::uint8_t> alone(kCodeSize, kHlt);
      place(made, alone);
      const Outcome native = native_.run(std::span(&made, 1), alone, batch_.memory).front();
      side.guest->prepare(alone, batch_.memory);
      watchdog_.begin(*side.guest);
      const Outcome second = side.guest->run(made.start);
      watchdog_.end();
      found = differences(made, native, second);
      const bool strayed = second.vector == x86::vector::kPf && (second.error_code & x86::pf::kPresent) == 0 &&
                           NativeProcessor::has_memory_at(second.address);
      if (found.empty() || strayed) side.guest->prepare(batch_.code, batch_.memory);
      if (found.empty() || strayed) {
        ++passing_;
        return;
      }
      ++failures_;
      // One of a kind is enough to read.
      const char* mnemonic = ZydisMnemonicGetString(static_cast<ZydisMnemonic>(made.instructions.back().mnemonic));
      const std::string kind = fmt::format("{} {} {} {}", side.name, mnemonic, first.vector, guest.vector);
      if (!shown && !seen_.insert(kind).second) return side.guest->prepare(batch_.code, batch_.memory);
    }
    fmt::print("--engine {} --seed {} --case {}: {} {}\n{}{}", side.name, options_.seed, index,
               first.kind == Outcome::Kind::End ? "ran through" : "vector", first.vector, describe(made), found);
    if (first.memory != guest.memory) show_memory(side, made);
    std::fflush(stdout);
    side.guest->prepare(batch_.code, batch_.memory);
  }

  void show_memory(const Side& side, const Case& made) {
    const std::vector<std::uint8_t> mine(side.guest->writable().begin(), side.guest->writable().end());
    std::vector<std::uint8_t> alone(kCodeSize, kHlt);
    place(made, alone);
    const auto native = native_.memory_after(made, alone, batch_.memory);
    unsigned lines = 0;
    for (std::size_t i = 0; i < kWritableSize && lines < 16; ++i)
      if (native[i] != mine[i]) {
        fmt::print("  memory {:x}: native {:02x}, guest {:02x}\n", kDataBase + i, native[i], mine[i]);
        ++lines;
      }
  }

  Options options_;
  NativeProcessor native_;
  std::vector<Side> sides_;
  Watchdog watchdog_;
  std::unique_ptr<Generator> generator_;
  Batch batch_;
  std::vector<Outcome> native_outcomes_;
  Coverage coverage_;
  std::set<std::string> seen_;  ///< kinds of differences
  std::uint64_t failures_ = 0, passing_ = 0, unjudged_ = 0;
};

}  // namespace
}  // namespace doppel::fuzz_isa

// What ctest takes for "skipped".
constexpr int kSkipped = 77;

int main(int argc, char** argv) try {
  doppel::fuzz_isa::Options options;
  CLI::App app{"Executes random instructions on the host's processor and on engines, and compares"};
  app.add_option("--engine", options.engine, "interp, dbt, direct (the latter with direct execution), or all");
  app.add_option("--seed", options.seed);
  app.add_option("--cases", options.cases, "how many; default: 100000");
  app.add_option("--seconds", options.seconds, "how long, instead");
  app.add_option("--case", options.only_case, "only this one");
  app.add_option("--failures", options.failures, "after how many kinds of differences to stop");
  app.add_option("--coverage-file", options.coverage_file, "add what was reached to that of earlier runs there");
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
