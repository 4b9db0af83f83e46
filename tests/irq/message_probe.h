#pragma once

#include <vector>

#include "irq/message.h"

namespace doppel::test {

class MessageProbe : public irq::MessageSink {
 public:
  void deliver(const irq::Message& message) override { messages.push_back(message); }
  std::vector<irq::Message> take() {
    std::vector<irq::Message> taken;
    taken.swap(messages);
    return taken;
  }
  std::vector<irq::Message> messages;
};

}  // namespace doppel::test
