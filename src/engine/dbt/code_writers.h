#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/zeroed_array.h"
#include "memory/guest_memory.h"
#include "x86/attention.h"

namespace doppel::engine::dbt {

/// Keeps the processors of a machine honest about code: a page that one of them has translated from must not be in a
/// write table of any, and blocks of a page that was stored to must go everywhere.
///
/// A processor that is about to read code calls protect(); one that fills a write entry asks may_write() first and, if
/// told so, fills it. Between them stands a handshake: protect() returns once no processor has a write entry for the
/// page. Any vCPU's thread; code_dropped() any thread.
class CodeWriters {
 public:
  /// One processor's side. Its thread calls serve() whenever Attention::kEngine is set, and between begin and end of
  /// run() only it touches its tables.
  class Peer {
   public:
    virtual ~Peer() = default;

   protected:
    /// A page of which blocks have to go, or write entries.
    virtual void drop_code(memory::GuestPhysical page) = 0;
    virtual void drop_writes(memory::GuestPhysical page) = 0;

   private:
    friend class CodeWriters;
    struct Request {
      memory::GuestPhysical page;
      bool writes;
    };
    x86::Attention* attention_ = nullptr;
    std::uint32_t bit_ = 0;
    std::mutex mutex_;  ///< of requests_
    std::vector<Request> requests_;
    std::atomic<std::uint64_t> posted_{0}, served_{0};
    std::atomic<bool> running_{false};
  };

  /// Becomes the code map's listener.
  explicit CodeWriters(memory::GuestMemory& memory);
  ~CodeWriters();
  CodeWriters(const CodeWriters&) = delete;
  CodeWriters& operator=(const CodeWriters&) = delete;

  /// Before the machine runs, and after it.
  void add(Peer& peer, x86::Attention& attention);
  void remove(Peer& peer);

  /// run() begins: other processors wait for this one from now on.
  void enter(Peer& self);
  void leave(Peer& self);
  void serve(Peer& self);

  /// The page is about to be read as code, and has been marked so (CodeMap::add_code), after its generation was taken:
  /// when that is the same afterwards, a store will be heard of.
  void protect(Peer& self, memory::GuestPhysical page);
  /// Whether a write entry for the page may be made now.
  bool may_write(Peer& self, memory::GuestPhysical page);
  /// CodeMap's listener: tells those that have read the page since the last time.
  void code_dropped(std::uint64_t page_index);

 private:
  /// Sets of processors, by bit_.
  struct Page {
    std::atomic<std::uint32_t> holders;  ///< that may have a write entry for it
    std::atomic<std::uint32_t> readers;  ///< that may have blocks of it
  };
  Page& page_of(memory::GuestPhysical page) { return pages_[memory_.page_index(page)]; }
  std::uint64_t post(Peer& peer, memory::GuestPhysical page, bool writes);

  memory::GuestMemory& memory_;
  std::vector<Peer*> peers_;
  ZeroedArray<Page> pages_;  ///< of RAM
};

}  // namespace doppel::engine::dbt
