#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "boot/kernel_images.h"
#include "debug/machine_target.h"
#include "machine/machine.h"

namespace doppel::debug::test {

/// A machine that counts in memory for ever, in 64-bit mode: a Linux kernel image whose whole code is one loop.
///
///     1000200  inc  rax            kLoop
///     1000203  mov  [1000800h], rax    kStore
///     100020b  nop                 kNop
///     100020c  jmp  1000200h
class MachineTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kLoop = 0x100'0200, kStore = 0x100'0203, kNop = 0x100'020B, kJump = 0x100'020C,
                                 kCounter = 0x100'0800;

  MachineTest() : machine_(make()), target(*machine_), owner_([this] { outcome_ = machine_->run(); }) {}
  ~MachineTest() override {
    machine_->stop();
    owner_.join();
  }

  static constexpr std::string_view kProgram{"\x48\xFF\xC0\x48\x89\x04\x25\x00\x08\x00\x01\x90\xEB\xF2", 14};

 private:
  static std::unique_ptr<machine::Machine> make() {
    doppel::test::BzImage image;
    image.system = doppel::test::Bytes(4096, std::byte{0});
    const doppel::test::Bytes program = doppel::test::bytes_of(kProgram);
    std::copy(program.begin(), program.end(), image.system.begin() + 0x200);
    machine::MachineConfig config;
    config.name = "test";
    config.memory_bytes = machine::kMinMemory;
    config.cpus = 2;
    config.kernel = {"loop.bin", image.build(), {}};
    auto machine = machine::Machine::create(std::move(config));
    if (!machine) throw std::runtime_error(machine.error().message);
    return std::move(machine).value();
  }

  std::unique_ptr<machine::Machine> machine_;

 protected:
  MachineTarget target;

 private:
  std::optional<Result<machine::Outcome>> outcome_;
  std::thread owner_;
};

}  // namespace doppel::debug::test
