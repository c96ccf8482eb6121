# mypy: ignore-errors
"""What a type checker must refuse, each line with the words that mypy has for it. See `test_type_checkers.py`."""

from typing import Any

from cascata import BlockingOut, Graph, In, Out, State, component, inport
from cascata.workflow import DAG, Task


@component
async def body(
    value: In[float],
    names: In[list[str]],
    result: Out[int],
    seen: State[dict[str, int]] = State(dict),
    maybe: In[int | None] = None,
) -> None:
    value.split()  # error: "float" has no attribute "split"
    value + "text"  # error: Unsupported operand types for +
    value.send(1)  # error: "float" has no attribute "send"
    names.append(3)  # error: Argument 1 to "append" of "list" has incompatible type "int"; expected "str"
    maybe + 1  # error: Unsupported operand types for + ("None" and "int")
    await result.send("text")  # error: Argument 1 to "send" of "Out" has incompatible type "str"; expected "int"
    await result.send(value)  # error: Argument 1 to "send" of "Out" has incompatible type "float"; expected "int"
    await result.send()  # error: Too few arguments for "send" of "Out"
    await result.send(1, 2)  # error: Too many arguments for "send" of "Out"
    await result.put(1)  # error: "Out[int]" has no attribute "put"
    seen.value["a"] = "b"  # error: Incompatible types in assignment
    seen.set([])  # error: Argument 1 to "set" of "State" has incompatible type
    seen.value = 3  # error: Incompatible types in assignment
    seen["a"] = 1  # error: Unsupported target for indexed assignment


@component
async def forgotten(value: In[int], result: Out[int]) -> None:
    result.send(value)  # error: Value of type "Coroutine[Any, Any, None]" must be used


@component(thread=True)
def in_a_thread(value: In[str], result: BlockingOut[int]) -> None:
    result.send(value)  # error: Argument 1 to "send" of "BlockingOut" has incompatible type "str"; expected "int"


@component
async def wider(value: In[int], result: Out[int]) -> None:
    port: Out[float] = result  # error: Incompatible types in assignment
    await port.send(1.5)


def numbers() -> list[int]:
    return []


@component
async def state(value: In[int], wrong: State[str] = State(numbers)) -> None:  # error: Argument 1 to "State"
    wrong.get()


@component
async def no_state(value: In[int], wrong: State[int] = 3) -> None:  # error: Incompatible default for
    wrong.get()


@component
async def default(value: In[int] = "text") -> None:  # error: Incompatible default for
    value.bit_length()


@component(3)  # error: No overload variant
async def options(value: In[int]) -> None:
    value.bit_length()


@component(concurency=2)  # error: Unexpected keyword argument "concurency"
async def misspelled(value: In[int]) -> None:
    value.bit_length()


@component(retries="three")  # error: No overload variant
async def retried(value: In[int]) -> None:
    value.bit_length()


@component
@inport("value", capacity="ten")  # error: Argument "capacity" to "inport" has incompatible type "str"
async def capacity(value: Any) -> None:
    print(value)


def graphs() -> None:
    graph = Graph()
    graph.body = body
    graph.add(3, "three")  # error: Argument 1 to "add" of "Graph" has incompatible type "int"
    graph.run(2)  # error: Too many positional arguments for "run" of "Graph"
    graph.shard("two")  # error: Argument 1 to "shard" of "Graph" has incompatible type "str"
    body.test(3)  # error: Too many arguments for "test" of "Component"
    body * "three"  # error: Unsupported operand types for * ("type[Component]" and "str")


class Square(Task):
    def do(self, batch: list[int]) -> list[int]:
        return batch


async def options_of_runs() -> None:
    graph = Graph()
    graph.run(workers=2)  # error: Unexpected keyword argument "workers" for "run" of "Graph"
    graph.run(num_workers="two")  # error: Argument "num_workers" to "run" of "Graph" has incompatible type "str"
    graph.run(engine="process")  # error: Argument "engine" to "run" of "Graph" has incompatible type
    graph.run(plan_from=3)  # error: Argument "plan_from" to "run" of "Graph" has incompatible type "int"
    await graph.run_async(timeout="1 s")  # error: Argument "timeout" to "run_async" of "Graph" has incompatible type
    graph.start(start_method="thread")  # error: Argument "start_method" to "start" of "Graph" has incompatible type
    graph.open(on_error="ignore")  # error: Argument "on_error" to "open" of "Graph" has incompatible type
    graph.stream(range(3), timeot=3)  # error: No overload variant of "stream" of "Graph"
    graph.stream(numbers=range(3), num_workers="two")  # error: No overload variant of "stream" of "Graph"
    graph.stream(numbers=3)  # error: No overload variant of "stream" of "Graph"
    graph.astream(range(3), debug="yes")  # error: No overload variant of "astream" of "Graph"
    graph.astream(numbers=range(3), grace=None)  # error: No overload variant of "astream" of "Graph"
    DAG().start(engine="threads")  # error: Argument "engine" to "start" of "DAG" has incompatible type
    Square().map([1], engine="threads")  # error: Argument "engine" to "map" of "Task" has incompatible type
    Square().map([1], worker=2)  # error: Unexpected keyword argument "worker" for "map" of "Task"
