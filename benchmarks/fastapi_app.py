import platform

import fastapi
import uvicorn
from fastapi import BackgroundTasks, FastAPI

# The route of applications.ts, for fastapi.ts to compare.

app = FastAPI()


def send_notification(email: str):
    pass


async def send_notification_async(email: str):
    pass


@app.get("/async/{email}")
async def notify_async(email: str, tasks: BackgroundTasks):
    tasks.add_task(send_notification_async, email)
    return {"message": "Notification sent in the background"}


@app.get("/sync/{email}")
async def notify_sync(email: str, tasks: BackgroundTasks):
    tasks.add_task(send_notification, email)
    return {"message": "Notification sent in the background"}


@app.get("/versions")
async def versions():
    return f"Python {platform.python_version()}, FastAPI {fastapi.__version__}, uvicorn {uvicorn.__version__}"
