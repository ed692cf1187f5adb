"""REST comes from the contract: a service made up here, of a `.proto` and a servicer, has everything without a further line of code."""

# ruff: noqa: N802 - servicers' methods are named by the contract

import importlib
import shutil
import sys
from pathlib import Path

import grpc_tools
import httpx
import pytest
from grpc_tools import protoc

from sickbay.domain.errors import FailedPrecondition, NotFound
from sickbay.server.inprocess.channel import InProcessChannel
from sickbay.server.rest.app import create_app
from sickbay.server.rest.transcoding.comments import RESOURCE
from sickbay.server.rest.transcoding.gateway import Gateway
from sickbay.server.service import Service
from tests.support import SUPPORT

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """What everybody's protoc makes of it, with the comments beside it as `make gen` does."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "zoo/v1").mkdir(parents=True)
    shutil.copy(SUPPORT / "zoo.proto", folder / "zoo/v1/pets.proto")
    words = [f"-I{folder}", f"-I{ROOT / 'proto'}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
    outs = [f"--python_out={folder}", f"--grpc_python_out={folder}", "--include_source_info"]
    descriptors = f"--descriptor_set_out={folder / 'zoo/v1' / RESOURCE}"
    assert protoc.main(["protoc", *words, *outs, descriptors, "zoo/v1/pets.proto"]) == 0
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield importlib.import_module("zoo.v1.pets_pb2"), importlib.import_module("zoo.v1.pets_pb2_grpc")
    sys.path.remove(str(folder))


@pytest.fixture
def app(zoo):
    pb, stubs = zoo

    class Pets(stubs.PetServiceServicer):
        """All that one writes."""

        async def FeedPet(self, request, context):
            self.asked = request
            if request.pet_id == "nobody":
                raise NotFound("there is no pet 'nobody'")
            if request.portions > 9:
                raise FailedPrecondition("it is full")
            return pb.FeedPetResponse(pet=pb.Pet(pet_id=request.pet_id, mood="MOOD_FULL"))

        async def ListPets(self, request, context):
            self.asked = request
            return pb.ListPetsResponse(pets=[pb.Pet(pet_id="rex", legs=0)], next_page_token="more")

        async def UpdatePet(self, request, context):
            self.asked = request
            return request.pet

        async def WatchPet(self, request, context):
            self.asked = request
            if request.pet_id == "nobody":
                raise NotFound("there is no pet 'nobody'")
            yield pb.WatchPetResponse(pet=pb.Pet(pet_id=request.pet_id), why="born", resume_token="1")

    servicer = Pets()
    channel = InProcessChannel([Service("zoo.v1.PetService", stubs.add_PetServiceServicer_to_server, servicer)])
    app = create_app("Zoo", "Pets.", "1")
    Gateway(app).add(pb.DESCRIPTOR.services_by_name["PetService"], stubs.PetServiceStub(channel))
    app.state.servicer = servicer
    return app


@pytest.fixture
async def client(app):
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", headers=headers) as client:
        yield client


async def test_path_query_headers_and_body_become_the_message(client, app, zoo):
    body = {"food": "hay", "portions": 2, "at": "2024-01-01T00:00:00.5Z", "by": "ann"}
    answer = await client.post("/pets/re%2Fx/feed?tenant=acme", json=body, headers={"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.json()["petId"], answer.json()["mood"]) == (200, "re/x", "FULL")
    asked = app.state.servicer.asked
    assert (asked.pet_id, asked.food, asked.portions, asked.actor) == ("re/x", "hay", 2, "ann")
    assert (asked.tenant, asked.request_id, asked.at.ToMilliseconds()) == ("acme", "k1", 1_704_067_200_500)


async def test_an_answer_has_every_field_that_is_set_and_none_that_is_not(client):
    pet = {"petId": "rex", "mood": "HUNGRY", "birthTime": "2020-02-02T00:00:00.000Z", "napSeconds": 1.5, "legs": 4, "picture": "AAE="}
    more = {"weights": {"kg": 2**53 + 1}, "extra": {"a": [1.0]}, "stars": 2**64 - 1, "toys": {"-7": {"name": "ball"}}}
    content = b'{"notes": { "big": 12345678901234567890 }, ' + httpx.Request("P", "http://a", json=pet | more).content[1:]
    told = await client.patch("/pets/rex?dryRun=true", content=content)
    assert b'"notes":{ "big": 12345678901234567890 }' in told.content
    assert told.json() == pet | more | {"notes": {"big": 12345678901234567890}, "young": [], "says": {}}
    bare = (await client.put("/pets/rex", json={"legs": 0})).json()
    assert bare == {"petId": "", "mood": "UNSPECIFIED", "young": [], "weights": {}, "legs": 0, "picture": "", "stars": 0} | {
        "toys": {},
        "says": {},
    }


async def test_what_nests_itself_is_read_as_protobuf_json(client):
    told = (await client.patch("/pets/rex", json={"young": [{"petId": "tim", "mood": "MOOD_FULL"}]})).json()
    assert (told["young"][0]["petId"], told["young"][0]["mood"]) == ("tim", "FULL")


async def test_a_query_becomes_the_message(client, app):
    answer = await client.get("/pets?moods=HUNGRY&moods=FULL&pageSize=7&asleep=false")
    assert answer.json()["nextPageToken"] == "more"
    asked = app.state.servicer.asked
    assert (list(asked.moods), asked.page_size, asked.HasField("asleep"), asked.asleep) == ([1, 2], 7, True, False)
    await client.get("/pets")
    assert not app.state.servicer.asked.HasField("asleep")


async def test_a_stream_is_one_of_server_sent_events(client, app):
    answer = await client.get("/pets/rex/events", headers={"Last-Event-ID": "0"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.split("\n\n")[1].startswith('id: 1\nevent: pet\ndata: {"petId":"rex",')
    assert '"why":"born"}' in answer.text
    assert app.state.servicer.asked.resume_token == "0"
    missing = await client.get("/pets/nobody/events")
    assert (missing.status_code, missing.json()["reason"]) == (404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    ("asked", "content", "status", "message"),
    [
        ("POST /pets/nobody/feed", b"{}", 404, "there is no pet 'nobody'"),
        ("POST /pets/rex/feed", b'{"portions": 10}', 409, "it is full"),
        ("POST /pets/rex/feed", b"[]", 400, "the body must be a JSON object: expected object, got array"),
        ("POST /pets/rex/feed", b'{"food": 7}', 400, "food: expected str, got int"),
        ("POST /pets/rex/feed", b'{"portions": -1}', 400, "portions: expected int >= 0"),
        ("POST /pets/rex/feed", b'{"foods": ""}', 400, "unknown field 'foods'; did you mean food?"),
        ("POST /pets/rex/feed", b'{"petId": ""}', 400, "unknown field 'petId'; known are at, by, delaySeconds, food, portions"),
        ("POST /pets/rex/feed", b'{"food": "", "food": ""}', 400, "duplicate field 'food'; send it once"),
        ("POST /pets/rex/feed", b'{"at": "noon"}', 400, "at: expected a time as RFC 3339, for example 2024-01-01T00:00:00Z"),
        ("POST /pets/rex/feed", b'{"at": "2024-01-01T00:00:00Z", "delaySeconds": 1}', 400, "send only one of at, delaySeconds"),
        ("POST /pets/rex/feed?tennant=a", b"{}", 400, "unknown parameter 'tennant'; known are tenant"),
        ("PATCH /pets/rex", b'{"mood": "SAD"}', 400, "mood: there is no 'SAD'; use one of HUNGRY, FULL"),
        ("PATCH /pets/rex", b'{"picture": "?"}', 400, "picture: expected base64"),
        ("PATCH /pets/rex", b'{"stars": 18446744073709551616}', 400, "stars: expected an integer below 2^64"),
        ("PATCH /pets/rex", b'{"weights": {"kg": "heavy"}}', 400, "weights[...]: expected int, got str"),
        ("PATCH /pets/rex", b'{"toys": {"a": {}}}', 400, "toys: every name must be an integer"),
        ("PATCH /pets/rex", b'{"toys": {"2147483648": {}}}', 400, "a number is out of the range of its field"),
        ("PATCH /pets/rex", b'{"says": {"maybe": ""}}', 400, "says: every name must be true or false"),
        ("GET /pets?moods=SAD", b"", 400, "mood: there is no 'SAD'; use one of HUNGRY, FULL"),
        ("GET /pets?pageSize=1001", b"", 400, "pageSize: Input should be less than or equal to 1000"),
        ("GET /pets?size=7", b"", 400, "size: Extra inputs are not permitted"),
        ("GET /pets?pageSize=1&pageSize=2", b"", 400, "the parameter 'pageSize' is given 2 times; give it once"),
    ],
)
async def test_what_is_wrong_is_told_in_the_same_sentences(client, asked, content, status, message):
    answer = await client.request(*asked.split(" "), content=content)
    assert (answer.status_code, answer.json()["message"]) == (status, message)
    assert answer.json().keys() == {"statusCode", "message", "reason"}


async def test_two_idempotency_keys_are_refused(client):
    answer = await client.post("/pets/rex/feed", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert (answer.status_code, answer.json()["message"]) == (400, "duplicate header Idempotency-Key; send it once")


def test_the_document_says_it_all(app):
    document = app.openapi()
    assert {path: set(operations) for path, operations in document["paths"].items()} == {
        "/pets": {"get"},
        "/pets/{petId}": {"patch", "put"},
        "/pets/{petId}/feed": {"post"},
        "/pets/{petId}/events": {"get"},
    }
    feed = document["paths"]["/pets/{petId}/feed"]["post"]
    assert (feed["operationId"], feed["tags"]) == ("FeedPet", ["pets"])
    assert feed["description"].startswith("Feeds one pet.")
    assert [(one["in"], one["name"]) for one in feed["parameters"]] == [
        ("path", "petId"),
        ("query", "tenant"),
        ("header", "idempotency-key"),
    ]
    assert feed["responses"].keys() == {"200", "400", "401", "403", "404", "409", "413", "415", "421", "422", "500", "503"}
    body = feed["requestBody"]["content"]["application/json"]["schema"]
    assert (feed["requestBody"]["required"], body["required"]) == (True, ["food"])
    assert body["properties"]["food"] == {"type": "string", "description": "Required. What it eats."}
    assert body["properties"].keys() == {"food", "portions", "at", "delaySeconds", "by"}
    pet = document["components"]["schemas"]["Pet"]
    assert pet["properties"]["mood"] == {"type": "string", "enum": ["HUNGRY", "FULL"], "description": "How it feels."}
    assert pet["properties"]["young"]["items"] == {"$ref": "#/components/schemas/Pet"}
    assert "birthTime" not in pet["required"]
    assert document["paths"]["/pets/{petId}"]["put"]["operationId"] == "UpdatePet2"
