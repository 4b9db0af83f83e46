#include "engine/dbt/code_writers.h"

#include <thread>
#include <utility>

namespace doppel::engine::dbt {

CodeWriters::CodeWriters(memory::GuestMemory& memory) : memory_(memory), pages_(memory.size() / memory::kPageSize) {
  // What processors write by their tables is told by the handshake; the interpreter's stores and devices' are few.
  memory.code().let_writers_fence();
  memory.code().set_listener([this](std::uint64_t page) { code_dropped(page); });
}

CodeWriters::~CodeWriters() {
  memory_.code().set_listener(nullptr);
}

void CodeWriters::add(Peer& peer, x86::Attention& attention) {
  peer.attention_ = &attention;
  peer.bit_ = std::uint32_t{1} << (peers_.size() % 32);
  peers_.push_back(&peer);
}

void CodeWriters::remove(Peer& peer) {
  std::erase(peers_, &peer);
}

void CodeWriters::enter(Peer& self) {
  self.running_.store(true, std::memory_order_seq_cst);
  serve(self);
}

void CodeWriters::leave(Peer& self) {
  self.running_.store(false, std::memory_order_seq_cst);
}

void CodeWriters::serve(Peer& self) {
  if (self.served_.load(std::memory_order_relaxed) == self.posted_.load(std::memory_order_seq_cst)) return;
  std::vector<Peer::Request> requests;
  {
    const std::lock_guard guard(self.mutex_);
    requests = std::move(self.requests_);
    self.requests_.clear();
  }
  for (const Peer::Request& request : requests) {
    if (request.writes) {
      self.drop_writes(request.page);
    } else {
      self.drop_code(request.page);
    }
  }
  self.served_.fetch_add(requests.size(), std::memory_order_seq_cst);
}

std::uint64_t CodeWriters::post(Peer& peer, memory::GuestPhysical page, bool writes) {
  std::uint64_t ticket = 0;
  {
    const std::lock_guard guard(peer.mutex_);
    peer.requests_.push_back({page, writes});
    ticket = peer.posted_.fetch_add(1, std::memory_order_seq_cst) + 1;
  }
  peer.attention_->set(x86::Attention::kEngine);
  return ticket;
}

void CodeWriters::protect(Peer& self, memory::GuestPhysical page) {
  auto& [holders, readers] = page_of(page);
  if ((readers.load(std::memory_order_relaxed) & self.bit_) == 0)
    readers.fetch_or(self.bit_, std::memory_order_acq_rel);
  const std::uint32_t held = holders.load(std::memory_order_seq_cst);
  if (held == 0) return;
  if ((held & self.bit_) != 0) self.drop_writes(page);
  std::vector<std::pair<Peer*, std::uint64_t>> awaited;
  for (Peer* peer : peers_) {
    if (peer != &self && (held & peer->bit_) != 0) awaited.emplace_back(peer, post(*peer, page, true));
  }
  for (const auto& [peer, ticket] : awaited) {
    while (peer->served_.load(std::memory_order_seq_cst) < ticket && peer->running_.load(std::memory_order_seq_cst)) {
      serve(self);  // it may be waiting for us
      std::this_thread::yield();
    }
  }
  // Last, so that whoever protects the same page meanwhile waits too.
  holders.fetch_and(~held, std::memory_order_seq_cst);
}

bool CodeWriters::may_write(Peer& self, memory::GuestPhysical page) {
  // Announced before the marks are looked at; protect() does it the other way round, so one sees the other.
  page_of(page).holders.fetch_or(self.bit_, std::memory_order_seq_cst);
  return !memory_.code().has_code(memory_.page_index(page));
}

void CodeWriters::code_dropped(std::uint64_t page_index) {
  // Whoever comes after this exchange finds the generation changed.
  const std::uint32_t readers = pages_[page_index].readers.exchange(0, std::memory_order_acq_rel);
  for (Peer* peer : peers_) {
    if ((readers & peer->bit_) != 0) post(*peer, memory_.page_address(page_index), false);
  }
}

}  // namespace doppel::engine::dbt
