#include "storage/block_device.h"

#include <future>

namespace doppel::storage {

int submit_and_wait(BlockDevice& device, BlockRequest request) {
  struct Waiting : BlockRequest {
    std::promise<int> outcome;
  };
  Waiting waiting;
  static_cast<BlockRequest&>(waiting) = request;
  waiting.done = [](BlockRequest& finished, int error) { static_cast<Waiting&>(finished).outcome.set_value(error); };
  std::future<int> outcome = waiting.outcome.get_future();
  device.submit(waiting);
  return outcome.get();
}

}  // namespace doppel::storage
