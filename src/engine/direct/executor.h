#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_set>

#include "engine/dbt/code_writers.h"
#include "engine/dbt/jump_table.h"
#include "engine/direct/code_pages.h"
#include "engine/direct/cpu_pin.h"
#include "engine/direct/preference.h"
#include "engine/direct/process.h"
#include "engine/direct/space_map.h"
#include "engine/direct/translator.h"
#include "engine/interp/mode.h"
#include "isa/decoder.h"
#include "x86/cpu.h"
#include "x86/fault.h"

namespace doppel::engine::direct {

/// Executes the programs of one vCPU's guest, 64-bit code at CPL 3, in a process whose address space is theirs. What
/// they ask of the kernel, and what it does, is for another engine on the same Cpu. The vCPU's thread.
class Executor {
 public:
  Executor(x86::Cpu& cpu, const isa::Decoder& decoder, dbt::CodeWriters& writers, dbt::CodeWriters::Peer& self,
           std::unique_ptr<Process> process, Preference preference, CpuPlaces& places);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Whether the program in the present address space is worth it. `returns` counts how often any went on after a
  /// system call or exception.
  bool wanted(std::uint64_t returns);
  /// The same, as far as known, without asking: its system calls and exceptions have to return to here.
  bool expected() const { return !lost_ && preference_.favours(space()); }

  enum class Next : std::uint8_t {
    LookAround,  ///< something waits for the vCPU
    Interpret,   ///< the instruction at RIP has to be interpreted, or raises an exception
    Fault,       ///< it raises fault()
    Lost,        ///< the process is no more, and with it what the program has done since: no program runs directly now
  };
  /// From the state of the Cpu on, which is up to date afterwards.
  Next run(interp::Mode mode);
  const x86::Fault& fault() const { return fault_; }

  // What the Mmu and CodeWriters tell their listeners.
  void flushed_all() { flushed_ = Flushed::All; }
  void flushed_non_global() {
    if (flushed_ == Flushed::Nothing) flushed_ = Flushed::NonGlobal;
  }
  void flushed_page(x86::LinearAddress address);
  void drop_code(memory::GuestPhysical page);
  void drop_writes(memory::GuestPhysical page);

  nlohmann::json stats() const;

 private:
  Preference::Clock::duration share(Preference::Clock::duration turn, std::uint64_t cycles) const;
  void note_size(x86::LinearAddress address, unsigned page_shift);
  std::uint64_t space() const { return align_down(cpu_.state.cr3, memory::kPageSize); }
  bool settled(x86::LinearAddress address, x86::Access access, memory::GuestPhysical& page) const;
  bool ready() const;
  std::uint32_t code_mode() const;
  void prepare();

  const std::byte* code_at(x86::LinearAddress rip);
  const std::byte* code_for(x86::LinearAddress rip);
  const std::byte* translate(x86::LinearAddress rip, const x86::Mmu::EnginePage& page, std::uint32_t mode);
  const std::byte* translate_crossing(Translator::Source source);
  bool translate_reachable(CodePages::Page& page, Translator::Source source, std::uint64_t index);

  bool pass_turn(const std::byte* code);
  const std::byte* handed_back();
  const std::byte* left_at_site(std::uint32_t number);
  const std::byte* interrupted();
  const std::byte* locate(const dbt::Block& block, const std::byte* pc);
  bool map(x86::LinearAddress address, x86::Access access);
  void map_around(x86::LinearAddress linear);
  void map_pages(x86::LinearAddress first, std::uint64_t bytes);
  const std::byte* stop(Next next) {
    next_ = next;
    return nullptr;
  }
  const std::byte* lose(const std::string& why);

  x86::Cpu& cpu_;
  dbt::CodeWriters& writers_;
  dbt::CodeWriters::Peer& self_;
  std::unique_ptr<Process> process_;
  Translator translator_;
  SpaceMap map_;
  dbt::JumpTable jumps_;
  CodePages pages_;
  Preference preference_;
  CpuPin pin_;

  interp::Mode mode_{};  ///< of the code that runs; jumps_ is for that
  std::uint64_t space_ = ~std::uint64_t{0};
  enum class Flushed : std::uint8_t { Nothing, NonGlobal, All } flushed_ = Flushed::Nothing;
  /// Where pages of more than 4 KiB have been met; INVLPG of any address in one ends all of it.
  std::unordered_set<x86::LinearAddress> large_;
  bool any_huge_ = false;  ///< pages of 1 GiB
  x86::Fault fault_;
  /// The page that a program has raised #PF for: it will be there when it goes on.
  struct Faulted {
    x86::LinearAddress page;
    x86::Access access;
  };
  std::optional<Faulted> faulted_;
  Next next_ = Next::LookAround;
  bool lost_ = false;
  bool jumped_ = false;                ///< the instruction being interpreted is one whose target was looked up in vain
  Preference::Spent spent_;            ///< in this run(); code is rewritten before it, too
  std::vector<std::uint16_t> wanted_;  ///< by translate_reachable()

  struct Stats {
    std::uint64_t entries = 0, hand_overs = 0, chains = 0, interpreted = 0, kicks = 0, faults = 0, pages_mapped = 0,
                  spaces = 0;
  };
  Stats stats_;
};

}  // namespace doppel::engine::direct
